"""PPO as a method, on a task whose best policy is known: say 'yes'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import make_job, prompt_data, tiny_reward_model, tiny_tokenizer  # noqa: E402

from cai_assets.engines.templating import Templater  # noqa: E402
from cai_assets.settings import Reinforcement  # noqa: E402
from cai_assets.train.feedback import model_reward, refuse_other_tokenizer  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.progress import Curves, Reporter  # noqa: E402
from cai_assets.train.reinforcement import COLUMNS, make_trainer  # noqa: E402
from cai_assets.train.rl_config import updates_per_step  # noqa: E402
from cai_assets.train.rl_rows import prompts  # noqa: E402
from cai_assets.train.run import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("exact")
YES = tiny_tokenizer().convert_tokens_to_ids("yes")
STOP = tiny_tokenizer().eos_token_id
SMALL: dict[str, Any] = {"steps": 2, "rollouts": 8, "batch_size": 4, "max_tokens": 6}


def say_yes(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The share of 'yes' among the tokens: 1 at best."""
    return [sum(token == YES for token in ids) / len(ids) for ids in completion_ids]


def make(folder: Path, base: Path, reward: Callable[..., list[float]] = say_yes, **changes: Any) -> tuple[Any, Any]:
    job = make_job(folder, "reinforcement", base, prompt_data(), **(SMALL | changes))
    settings = Reinforcement.model_validate(job.settings)
    tokenizer = tiny_tokenizer()
    rows, _ = prompts(job, settings, Templater(tokenizer))
    return job, make_trainer(job, settings, rows, tokenizer, reward)


def curve(folder: Path, base: Path, **changes: Any) -> list[dict[str, Any]]:
    job, trainer = make(folder, base, **changes)
    updates = updates_per_step(Reinforcement.model_validate(job.settings))
    train(job, trainer, Reporter(lambda _: None), COLUMNS, shown=("reward",), updates=updates)
    return Curves(job.curves).rows()


def rollout(trainer: Any) -> dict[str, Any]:
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch: dict[str, Any] = trainer._generate_and_score_completions([trainer.train_dataset[i] for i in range(4)])
    return batch


LEARN: dict[str, Any] = {"steps": 25, "rollouts": 16, "batch_size": 8, "learning_rate": 3e-3, "missing_eos_penalty": 0}


def test_it_learns_what_is_rewarded_and_beta_holds_it_back(base: Path, tmp_path: Path) -> None:
    free = curve(tmp_path / "free", base, beta=0.0, **LEARN)
    held = curve(tmp_path / "held", base, beta=1.0, **LEARN)
    assert [row["step"] for row in free] == list(range(1, 26))
    assert free[0]["kl"] == held[0]["kl"] == 0
    assert free[-1]["score"] > free[0]["score"] + 0.5
    assert held[-1]["kl"] < 0.5 * free[-1]["kl"]
    assert free[-1]["entropy"] < free[0]["entropy"]


def test_a_head_on_the_policys_trunk_learns_what_is_rewarded(base: Path, tmp_path: Path) -> None:
    rows = curve(tmp_path, base, value_model="shared", beta=0.0, **LEARN)
    assert rows[-1]["score"] > rows[0]["score"] + 0.5
    assert rows[-1]["value_loss"] < 0.2 * rows[0]["value_loss"]


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_the_loss_of_a_head_reaches_the_trunk(lora: Any, base: Path, tmp_path: Path) -> None:
    _, trainer = make(tmp_path, base, value_model="shared", lora=lora, beta=0.0)
    assert trainer._updates.names.keys() == set(trainer.value_model.parameters())
    torch.nn.init.normal_(trainer.value_model.head.weight)
    batch = rollout(trainer)
    batch["advantages"] = torch.zeros_like(batch["advantages"])  # the policy's own loss has nothing to learn from
    trainer._compute_loss(trainer.model, batch).backward()
    assert sum(p.grad.abs().sum().item() for p in trainer.model.parameters() if p.grad is not None) > 0
    assert trainer.value_model.head.weight.grad.abs().sum() > 0


def test_the_missing_end_is_penalized(base: Path, tmp_path: Path) -> None:
    rows = curve(tmp_path, base, steps=20, rollouts=16, batch_size=8, learning_rate=3e-3, missing_eos_penalty=3.0)
    assert rows[-1]["eos_rate"] > rows[0]["eos_rate"] + 0.3
    assert rows[-1]["response_length"] < rows[0]["response_length"]


def test_prompts_reach_the_model_as_the_ids_given(base: Path, tmp_path: Path) -> None:
    _, trainer = make(tmp_path, base)
    batch = rollout(trainer)
    for i in range(4):
        kept = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()].tolist()
        assert kept == trainer.train_dataset[i]["prompt"]


@pytest.mark.parametrize("value_model", ["own", "shared"])
def test_each_value_is_that_of_the_state_before_its_token(value_model: str, base: Path, tmp_path: Path) -> None:
    _, trainer = make(tmp_path, base, value_model=value_model)
    torch.nn.init.normal_(trainer.value_model.head.weight)
    batch = rollout(trainer)
    values = trainer._values(batch)
    for i in range(4):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()]
        response = batch["completion_ids"][i][batch["completion_mask"][i].bool()]
        for t in range(len(response)):
            state = torch.cat([prompt, response[:t]]).unsqueeze(0)
            given = [state, torch.ones_like(state)] if value_model == "own" else [
                trainer.model.model(state).last_hidden_state]
            expected = trainer.value_model(*given)[0, -1]
            assert values[i, t].item() == pytest.approx(expected.item(), abs=1e-4)


def test_old_and_new_probabilities_agree_before_the_first_update(base: Path, tmp_path: Path) -> None:
    _, trainer = make(tmp_path, base)
    batch = rollout(trainer)
    mask = batch["completion_mask"].bool()
    now = trainer._logps(trainer.model, batch)
    assert torch.allclose(now[mask], batch["old_per_token_logps"][mask], atol=1e-6)
    assert batch["advantages"][~mask].abs().sum() == 0


@pytest.mark.parametrize(("advantage", "vanishes"), [(1.0, True), (-1.0, False)])
def test_beyond_the_clip_the_gradient_vanishes_only_where_it_would_go_further(
    base: Path, tmp_path: Path, advantage: float, vanishes: bool
) -> None:
    _, trainer = make(tmp_path, base)
    batch = rollout(trainer)
    batch["advantages"] = torch.full_like(batch["advantages"], advantage)
    batch["old_per_token_logps"] = trainer._logps(trainer.model, batch).detach() - 1  # ratio e > 1.2
    trainer._compute_loss(trainer.model, batch).backward()
    total = sum(p.grad.abs().sum().item() for p in trainer.model.parameters() if p.grad is not None)
    assert (total == 0) == vanishes


def test_the_value_model_is_optimized_and_clipped(base: Path, tmp_path: Path) -> None:
    _, trainer = make(tmp_path, base, max_grad_norm=1e-3)
    trainer.create_optimizer()
    of_policy, of_value = ([p for group in optimizer.param_groups for p in group["params"]]
                           for optimizer in (trainer.optimizer, trainer._updates.optimizer))
    ours = list(trainer.value_model.parameters())
    assert [id(p) for p in of_value] == [id(p) for p in ours]
    assert not {id(p) for p in of_policy} & {id(p) for p in ours}
    assert type(trainer._updates.optimizer) is type(trainer.optimizer)
    for p in ours:
        p.grad = torch.ones_like(p)
    trainer._clip_grad_norm(trainer.model)
    assert torch.stack([p.grad.norm() for p in ours]).norm().item() <= 1.001e-3


def test_no_gradient_outlives_its_update(base: Path, tmp_path: Path) -> None:
    _, trainer = make(tmp_path, base, steps=1)
    trainer.train()
    assert all(p.grad is None for p in [*trainer.value_model.parameters(), *trainer.model.parameters()])


def test_the_score_is_that_of_prompt_and_response(base: Path, tmp_path: Path) -> None:
    folder = tiny_reward_model(base, tmp_path / "rm")
    _, trainer = make(tmp_path, base, model_reward(folder, 4), beta=0.5, missing_eos_penalty=2.0, gae_lambda=1.0)
    batch = rollout(trainer)
    mask = batch["completion_mask"]
    # The value model starts at zero and the policy at its reference: a return is score and penalty alone.
    last = batch["completion_ids"].gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
    expected = trainer._scores - 2.0 * (last != STOP)
    assert torch.allclose(batch["returns"][:, 0], expected, atol=1e-5)


def test_what_cannot_work_is_refused_with_advice(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as three_processes:
        three_processes.setenv("WORLD_SIZE", "3")
        with pytest.raises(TrainingProblem, match=r"rl\.rollouts=8 must be a multiple"):
            updates_per_step(Reinforcement(rollouts=8, batch_size=4))
    with pytest.raises(TrainingProblem, match=r"leaves no room for a prompt"):
        make(tmp_path, base, max_length=16, max_tokens=16)
    other = tmp_path / "other"
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(other)
    with pytest.raises(TrainingProblem, match="a different vocabulary"):
        refuse_other_tokenizer(tiny_tokenizer(), other)
