"""L_SL + alpha x L_RL: the gradient is that sum, and a larger alpha reinforces more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from rl_task import ALL, LEARN, curve, job_of, rollout, trainer_of  # noqa: E402

from cai_assets.train.supervised_term import _order, padded  # noqa: E402

pytestmark = pytest.mark.usefixtures("exact")
def gradient(model: Any, loss: Any) -> Any:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_gradient_is_that_of_sl_plus_alpha_times_that_of_rl(
    algorithm: str, accumulation: int, base: Path, tmp_path: Path
) -> None:
    alpha = 2.5
    job = job_of(tmp_path, base, algorithm=algorithm, alpha=alpha, gradient_accumulation=accumulation)
    trainer = trainer_of(job)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = accumulation
    if algorithm == "dpo":
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    else:
        batch = rollout(trainer)
        trainer.current_gradient_accumulation_steps = accumulation
    together = gradient(trainer.model, trainer.compute_loss(trainer.model, dict(batch)))
    rows = [trainer.task.supervised[i] for i in _order(0, 8, 0)[:4]]
    supervised = trainer.model(**padded(rows, trainer.task.pad, "cpu")).loss
    trainer.task = trainer.task._replace(settings=trainer.task.settings.model_copy(update={"alpha": None}))
    alone = gradient(trainer.model, trainer.compute_loss(trainer.model, dict(batch)))
    scale = accumulation if trainer.loss_is_scaled_for_ga else 1
    expected = gradient(trainer.model, supervised) / scale + alpha * alone
    assert alone.abs().max() > 0
    assert torch.allclose(together, expected, atol=1e-6)


def test_the_supervised_loss_is_that_of_response_tokens_alone(base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(job_of(tmp_path, base, alpha=1.0, temperature=2.0))
    rows = [trainer.task.supervised[i] for i in _order(0, 8, 0)[:4]]
    total, tokens = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logps = trainer.model(torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(-1)
        for position, label in enumerate(row["labels"][1:]):
            if label != -100:
                total, tokens = total - logps[position, label].item(), tokens + 1
    assert trainer._supervised_loss(trainer.model).item() == pytest.approx(total / tokens, abs=1e-5)


def test_minibatches_are_dealt_out_by_step_whatever_came_before(base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(job_of(tmp_path, base, alpha=1.0, batch_size=4, rollouts=8))
    first, second, third = (trainer._supervised_rows() for _ in range(3))
    every = [*first, *second]
    assert sorted(map(str, every)) == sorted(map(str, trainer.task.supervised))
    trainer._micro = (-1, 0)
    trainer.state.global_step = 2
    assert trainer._supervised_rows() == third
    assert third != first


@pytest.mark.long
def test_a_larger_alpha_raises_the_reward_more(base: Path, tmp_path: Path) -> None:
    """The supervised data say 'yes' in a third of the tokens; the reward wants nothing else."""
    ends = []
    for alpha in (0.03, 10.0):
        rows = curve(tmp_path / str(alpha), base, alpha=alpha, beta=0.0, **LEARN)
        ends.append(rows[-1])
        assert rows[-1]["sl_loss"] < rows[0]["sl_loss"]
    assert ends[1]["score"] > ends[0]["score"] + 0.2
