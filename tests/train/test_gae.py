from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from cai_assets.train.gae import clipped_value_loss, gae, masked_mean, token_rewards, whiten  # noqa: E402

number = st.floats(-5, 5, allow_nan=False, width=32)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def reference(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """The sum of discounted temporal differences, straight from the definition."""
    n = len(rewards)
    deltas = [rewards[t] + gamma * (values[t + 1] if t + 1 < n else 0.0) - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n)) for t in range(n)]


def padded(rows: list[list[float]], filler: float = 0.0) -> Any:
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows], dtype=torch.float64)


@settings(max_examples=60)
@given(st.data(), lengths, st.floats(0.1, 1), st.floats(0, 1))
def test_gae_equals_its_definition_whatever_the_padding_holds(
    data: st.DataObject, sizes: list[int], gamma: float, lam: float
) -> None:
    rewards = [data.draw(st.lists(number, min_size=n, max_size=n)) for n in sizes]
    values = [data.draw(st.lists(number, min_size=n, max_size=n)) for n in sizes]
    mask = padded([[1.0] * n for n in sizes])
    advantages, returns = gae(padded(rewards, 99.0), padded(values, -77.0), mask, gamma, lam)
    for i, n in enumerate(sizes):
        expected = reference(rewards[i], values[i], gamma, lam)
        assert advantages[i, :n].tolist() == pytest.approx(expected, abs=1e-6)
        assert returns[i, :n].tolist() == pytest.approx([a + v for a, v in zip(expected, values[i], strict=True)])
        assert not advantages[i, n:].any()
        assert not returns[i, n:].any()


def test_a_score_lands_on_the_last_token_and_the_penalty_on_each() -> None:
    kl, mask = torch.tensor([[1.0, 2.0, 5.0], [1.0, 1.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), kl, mask, beta=0.5)
    assert rewards.tolist() == [[-0.5, 9.0, 0.0], [-0.5, -0.5, 19.5]]


def test_whitening_uses_response_tokens_only() -> None:
    x, mask = torch.tensor([[1.0, 3.0, 500.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    white = whiten(x, mask)
    assert white[0].tolist() == pytest.approx([-1.0, 1.0, 0.0], abs=1e-4)
    assert float(masked_mean(white, mask)) == pytest.approx(0.0, abs=1e-6)
    assert whiten(torch.ones(2, 2), torch.ones(2, 2)).abs().max() == 0


def test_a_value_that_moved_beyond_the_clip_toward_the_return_gets_no_gradient() -> None:
    values = torch.tensor([[0.5, 0.1]], requires_grad=True)
    loss = clipped_value_loss(values, torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2), clip=0.2)
    loss.backward()
    assert values.grad is not None
    assert values.grad[0, 0] == 0
    assert values.grad[0, 1] < 0
    assert float(loss) == pytest.approx(0.5 * (0.8**2 + 0.9**2) / 2)
