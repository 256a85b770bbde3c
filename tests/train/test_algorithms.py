"""PPO, GRPO, RLOO and DPO as methods, on a task whose best policy is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from rl_task import ALL, LEARN, ONLINE, SMALL, YES, curve, job_of, rollout, trained, trainer_of  # noqa: E402

from cai_assets.registry.algorithms import ALGORITHMS  # noqa: E402
from cai_assets.train.__main__ import run_job  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.progress import Curves, Reporter  # noqa: E402
from cai_assets.train.rollouts import Spread, adapted  # noqa: E402

SILENT = Reporter(lambda _: None)


pytestmark = pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_groups_learn_what_is_rewarded_and_beta_holds_them_back(
    algorithm: str, base: Path, tmp_path: Path
) -> None:
    free = curve(tmp_path / "free", base, algorithm=algorithm, beta=0.0, **LEARN)
    held = curve(tmp_path / "held", base, algorithm=algorithm, beta=1.0, **LEARN)
    assert [row["step"] for row in free] == list(range(1, 26))
    assert free[0]["kl"] == held[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert free[-1]["score"] > 0.85
    assert held[-1]["kl"] < 0.5 * free[-1]["kl"]
    names = {"reward", "score", "kl", "beta", "response_length", "repetition", "entropy", "clip_fraction"}
    assert names <= free[0].keys()


@pytest.mark.parametrize("algorithm", ONLINE)
def test_every_prompt_has_its_own_group(algorithm: str, base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(job_of(tmp_path, base, algorithm=algorithm))
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    prompts = [tuple(row["prompt"]) for row in batch]
    size = 4 if ALGORITHMS[algorithm].grouped else 1
    assert len(prompts) == 8
    assert all(len(set(prompts[i : i + size])) == 1 for i in range(0, 8, size))
    expected = [tuple(trainer.train_dataset[i]["prompt"]) for i in range(8 // size)]
    assert prompts[::size] == expected


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
@pytest.mark.parametrize(("advantage", "vanishes"), [(1.0, True), (-1.0, False)])
def test_clipped_terms_have_no_gradient(
    algorithm: str, base: Path, tmp_path: Path, advantage: float, vanishes: bool
) -> None:
    trainer = trainer_of(job_of(tmp_path, base, algorithm=algorithm, beta=0.0))
    batch = rollout(trainer)
    batch["advantages"] = torch.full_like(batch["advantages"], advantage)
    now = trainer._logps(trainer.model, batch).detach()
    batch["old_per_token_logps"] = now - 1  # ratio e > 1.2
    batch["old_logps"] = (now * batch["completion_mask"]).sum(1) - 1
    trainer._compute_loss(trainer.model, batch).backward()
    total = sum(p.grad.abs().sum().item() for p in trainer.model.parameters() if p.grad is not None)
    assert (total == 0) == vanishes


def test_a_penalty_for_length_and_for_a_missing_end_is_in_the_reward_of_each_algorithm(
    base: Path, tmp_path: Path
) -> None:
    for algorithm in ONLINE:
        job = job_of(tmp_path / algorithm, base, algorithm=algorithm, length_penalty=0.25, missing_eos_penalty=2.0)
        trainer = trainer_of(job)
        batch = rollout(trainer)
        length = batch["completion_mask"].sum(1)
        last = batch["completion_ids"].gather(1, length[:, None] - 1).squeeze(1)
        missing = (last != trainer.processing_class.eos_token_id).float()
        assert torch.allclose(trainer._shaped, trainer._scores - 0.25 * length - 2 * missing)
        shares = [(row == YES).sum() / n for row, n in zip(batch["completion_ids"], length, strict=True)]
        assert trainer._scores.tolist() == pytest.approx([float(s) for s in shares])


def test_with_kl_in_the_loss_the_rewards_of_tokens_have_none(base: Path, tmp_path: Path) -> None:
    rows = curve(tmp_path / "learn", base, kl_in="loss", beta=1.0, **LEARN)
    free = curve(tmp_path / "free", base, kl_in="loss", beta=0.0, **LEARN)
    assert rows[-1]["kl"] < 0.5 * free[-1]["kl"]
    trainer = trainer_of(job_of(tmp_path, base, kl_in="loss", beta=0.7, gae_lambda=1.0))
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.add_(0.01 * torch.randn_like(p))  # away from the reference
    batch = rollout(trainer)
    assert torch.allclose(batch["returns"][:, 0], trainer._shaped, atol=1e-5)
    assert trainer.beta == 0.7


def test_beta_follows_the_controller_of_ziegler() -> None:
    assert adapted(0.5, kl=6.0, target=6.0) == 0.5
    assert adapted(0.5, kl=60.0, target=6.0) == pytest.approx(0.5 * 1.02)
    assert adapted(0.5, kl=0.0, target=6.0) == pytest.approx(0.5 * 0.98)
    assert adapted(0.5, kl=6.6, target=6.0) == pytest.approx(0.5 * 1.01)


@pytest.mark.parametrize("algorithm", ONLINE)
def test_beta_adapts_and_survives_a_stop(algorithm: str, base: Path, tmp_path: Path) -> None:
    changes = {"algorithm": algorithm, "beta": 0.1, "kl_target": 1e-3, "save_every": 2, "steps": 6,
               "learning_rate": 3e-3, "ppo_epochs": 2}
    straight = curve(tmp_path / "straight", base, **changes)
    assert straight[0]["beta"] == 0.1
    assert straight[1]["beta"] == pytest.approx(0.098)  # the first KL is zero
    assert straight[-1]["beta"] > straight[2]["beta"]
    job = job_of(tmp_path / "stopped", base, **changes)
    first = trainer_of(job)
    first.args.max_steps = 4 * first.args.max_steps // 6
    trained(job, first)
    said: list[str] = []
    resumed = trained(job, trainer_of(job), said)
    assert said[0] == "resuming after step 4"
    for a, b in zip(straight, resumed, strict=True):
        for name in ("beta", "kl", "reward", "reward_outlier"):
            assert b[name] == pytest.approx(a[name], abs=1e-4)


def test_spread_pools_all_batches() -> None:
    batches = [torch.randn(5) + 3, torch.randn(1), torch.randn(7) * 4]
    spread = Spread()
    for batch in batches:
        spread = spread.plus(batch)
    together = torch.cat(batches)
    assert spread.mean == pytest.approx(together.mean().item(), abs=1e-5)
    assert spread.squares == pytest.approx(together.var(correction=0).item() * 13, rel=1e-4)
    assert Spread().plus(torch.ones(4)).furthest(torch.ones(4)) == 0


def test_dpo_raises_the_margin_of_chosen_over_rejected(base: Path, tmp_path: Path) -> None:
    rows = curve(tmp_path, base, algorithm="dpo", epochs=8, learning_rate=1e-3, beta=0.5)
    assert rows[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["margin"] > 1
    assert rows[-1]["accuracy"] == 1
    assert rows[-1]["chosen_reward"] > rows[-1]["rejected_reward"]


def test_dpo_is_the_cross_entropy_against_the_label_and_dpo_itself_at_one(base: Path, tmp_path: Path) -> None:
    from cai_assets.train.dpo import preference_loss

    margin, p = torch.tensor([0.3, -1.2, 0.4]), torch.tensor([1.0, 0.7, 0.5])
    by_hand = -p * margin.sigmoid().log() - (1 - p) * (-margin).sigmoid().log()
    assert torch.allclose(preference_loss(margin, p), by_hand)
    assert preference_loss(margin, p)[0].item() == pytest.approx(-torch.nn.functional.logsigmoid(margin[0]).item())
    # A label is also a target: the margin stops where the policy's probability is the label's.
    trainer = trainer_of(job_of(tmp_path, base, algorithm="dpo", beta=0.5))
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert batch["p_chosen"].tolist() == pytest.approx([0.9] * 4)
    loss = trainer.compute_loss(trainer.model, dict(batch))
    assert loss.item() == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-5)


@pytest.mark.parametrize("algorithm", ALL)
def test_resuming_equals_never_stopping(algorithm: str, base: Path, tmp_path: Path) -> None:
    changes = {"algorithm": algorithm, "learning_rate": 1e-3, "save_every": 2, "steps": 4, "epochs": 1, "alpha": 0.5}
    straight = job_of(tmp_path / "straight", base, **changes)
    whole = trainer_of(straight)
    rows = trained(straight, whole)
    job = job_of(tmp_path / "stopped", base, **changes)
    first = trainer_of(job)
    first.args.max_steps = whole.state.max_steps * 2 // 4 if algorithm != "dpo" else 2
    trained(job, first)
    second = trainer_of(job)
    said: list[str] = []
    again = trained(job, second, said)
    assert said[0] == "resuming after step 2"
    assert len(again) == len(rows)
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert (a - b).abs().max().item() < 1e-4
    assert again[-1]["sl_loss"] == pytest.approx(rows[-1]["sl_loss"], abs=1e-4)


@pytest.mark.parametrize("algorithm", ALL)
def test_each_algorithm_publishes_a_policy_with_the_monitors_numbers(
    algorithm: str, base: Path, scorer: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path, base, held_out=5, algorithm=algorithm, learning_rate=1e-3, epochs=1)
    job = job.model_copy(update={"reward_model": scorer})
    said: list[str] = []
    run_job(job, Reporter(said.append))
    metrics = json.loads(job.metrics.read_text())
    assert (job.final / "model.safetensors").is_file()
    assert not job.state.exists()
    for name in ("held_out_reward", "response_length", "repetition"):
        assert metrics[f"{name}_first"] is not None
        assert metrics[f"{name}_last"] is not None
    assert metrics["held_out_n"] == 5
    assert metrics["fit"]["held-out prompts"] == {"read": 5, "cut": 0, "dropped": 0}
    assert metrics["fit"]["pairs" if algorithm == "dpo" else "prompts"]["read"] == metrics["rows_read"] - 5 > 0
    assert metrics["held_out_reward_first_se"] > 0
    assert metrics["kl_max"] >= metrics["kl_last"]
    assert metrics["published_step"] == metrics["steps"] == len(Curves(job.curves).rows())
    assert Curves(job.curves).rows()[-1]["held_out_reward"] == metrics["held_out_reward_last"]
    assert any(line.startswith("held-out reward ") for line in said)


@pytest.mark.parametrize(("changes", "why"), [
    ({"algorithm": "dpo", "beta": 0.0}, "nothing to learn"),
    ({"algorithm": "dpo", "kl_target": 1.0}, "kl_target adapts beta"),
    ({"beta": 0.0, "kl_target": 1.0}, "kl_target adapts beta"),
    ({"best": "reward"}, "needs a reward and held-out prompts"),
])  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, Any], why: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingProblem, match=why):
        trainer_of(job_of(tmp_path, base, **changes))


def test_alpha_without_supervised_data_is_refused(base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base, alpha=1.0).model_copy(update={"supervised_data": None})
    with pytest.raises(TrainingProblem, match="names no supervised data"):
        trainer_of(job)
    assert SMALL["rollouts"] == 8
