"""The reward model's loss against what theory says of it, and what a tiny model learns from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import WORDS, make_job, preference_data, tiny_tokenizer, user  # noqa: E402

from cai_assets.engines.templating import Templater  # noqa: E402
from cai_assets.evals.reward import parse  # noqa: E402
from cai_assets.settings import Reward  # noqa: E402
from cai_assets.train import reward  # noqa: E402
from cai_assets.train.__main__ import run_job  # noqa: E402
from cai_assets.train.data import preference_rows  # noqa: E402
from cai_assets.train.progress import Reporter  # noqa: E402
from cai_assets.train.run import load_scalar  # noqa: E402
from cai_assets.train.scoring import score_ids  # noqa: E402
from cai_assets.train.soft_reward import Float32Head, preference_loss  # noqa: E402

SILENT = Reporter(lambda _: None)
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0}


pytestmark = pytest.mark.usefixtures("exact")
def tensors(n: int = 64, seed: int = 0) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    return 3 * torch.randn(n), 3 * torch.randn(n)


def loss(chosen: Any, rejected: Any, p: float | Any, **settings: Any) -> Any:
    return preference_loss(chosen, rejected, torch.as_tensor(p).expand(chosen.shape), Reward(**settings))


def test_a_certain_label_gives_the_bradley_terry_loss_and_its_mirror() -> None:
    chosen, rejected = tensors()
    assert torch.allclose(loss(chosen, rejected, 1.0), -torch.nn.functional.logsigmoid(chosen - rejected))
    assert torch.allclose(loss(chosen, rejected, 0.0), -torch.nn.functional.logsigmoid(rejected - chosen))


@pytest.mark.parametrize("settings", [{}, {"margin": 0.7, "centering": 0.3}, {"targets": "hard", "margin": 0.5}])
def test_naming_the_other_response_chosen_changes_nothing(settings: dict[str, Any]) -> None:
    chosen, rejected = tensors()
    for p in (0.0, 0.2, 0.5, 0.9):
        assert torch.allclose(loss(chosen, rejected, p, **settings), loss(rejected, chosen, 1 - p, **settings))


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.6, 0.95])
@pytest.mark.parametrize("margin", [0.0, 0.8])
def test_the_loss_is_smallest_where_the_difference_is_the_labels_log_odds(p: float, margin: float) -> None:
    d = torch.linspace(-8, 8, 16001)
    best = d[loss(d, torch.zeros_like(d), p, margin=margin).argmin()].item()
    assert best == pytest.approx(math.log(p / (1 - p)) + margin * (2 * p - 1), abs=2e-3)


@pytest.mark.parametrize("settings", [{}, {"targets": "hard"}, {"margin": 0.4, "centering": 0.2}])
def test_gradients(settings: dict[str, Any]) -> None:
    chosen, rejected = (x.requires_grad_() for x in tensors(16))
    p = torch.linspace(0, 1, 16)
    values = Reward(**settings)
    preference_loss(chosen, rejected, p, values).sum().backward()
    target = p if values.targets == "soft" else (p > 0.5).float()
    lead = (chosen - rejected - values.margin * (2 * p - 1)).detach()
    wanted = torch.sigmoid(lead) - target
    shift = 2 * values.centering * (chosen + rejected).detach()
    assert torch.allclose(chosen.grad, wanted + shift, atol=1e-6)
    assert torch.allclose(rejected.grad, -wanted + shift, atol=1e-6)


def test_hard_targets_take_the_labels_side_and_a_half_has_none() -> None:
    chosen, rejected = tensors()
    for p, side in ((0.51, 1.0), (0.49, 0.0), (0.5, 0.5)):
        assert torch.equal(loss(chosen, rejected, p, targets="hard"), loss(chosen, rejected, side))


def test_centering_pulls_the_sum_of_the_rewards_and_leaves_their_difference() -> None:
    chosen, rejected = tensors()
    centered = loss(chosen, rejected, 0.8, centering=0.1) - loss(chosen, rejected, 0.8)
    assert torch.allclose(centered, 0.1 * (chosen + rejected) ** 2, atol=1e-5)


def test_the_loss_is_float32_and_finite_whatever_comes_in() -> None:
    far = torch.tensor([300.0, -300.0], dtype=torch.bfloat16)
    out = preference_loss(far, -far, torch.tensor([0.3, 0.3]), Reward())
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


def test_the_head_computes_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(64, 1, bias=False)
    hidden = torch.randn(4, 64)
    head = Float32Head.around(plain)
    assert head.state_dict().keys() == plain.state_dict().keys()
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(hidden).dtype == torch.bfloat16
        under = head(hidden.bfloat16())
    assert torch.equal(under, torch.nn.functional.linear(hidden.bfloat16().float(), plain.weight))


def test_the_trainers_loss_is_that_of_its_batch(base: Path, tmp_path: Path) -> None:
    data = [row | {"p_chosen": 0.6 + 0.05 * i} for i, row in enumerate(preference_data(6, held_out=0))]
    job = make_job(tmp_path, "reward", base, data, batch_size=6, margin=0.3, centering=0.05)
    settings = Reward.model_validate(job.settings)
    tokenizer = reward.reward_tokenizer(job)
    rows, _ = preference_rows(data, Templater(tokenizer), 32)
    trainer = reward.make_trainer(job, settings, rows, tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    p = batch["p_chosen"].clone()
    chosen, rejected = (torch.tensor(score_ids(trainer.model, [ids[mask.bool()].tolist() for ids, mask in part]))
                        for part in _halves(batch))
    got = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert sorted(p.tolist()) == pytest.approx([r["p_chosen"] for r in data])
    assert got == pytest.approx(preference_loss(chosen, rejected, p, settings).mean().item(), abs=1e-5)


def _halves(batch: dict[str, Any]) -> list[list[tuple[Any, Any]]]:
    both = list(zip(batch["input_ids"], batch["attention_mask"], strict=True))
    return [both[: len(both) // 2], both[len(both) // 2 :]]


def graded(n: int = 160) -> list[dict[str, Any]]:
    """Pairs whose label's probability is told by the rejected word: one of .95, .75, .55."""
    kinds = [("no", 0.95), ("bad", 0.75), ("maybe", 0.55)]
    return [{"messages": user(WORDS[i % 15]), "chosen": "yes", "rejected": kinds[i % 3][0], "p_chosen": kinds[i % 3][1],
             "held_out": i < 30} for i in range(n)]


def held_out_error(job: Any) -> float:
    """Mean distance of the margins' probabilities from the labels'."""
    results = parse((job.final / reward.HELD_OUT).read_text().splitlines())
    return sum(abs(1 / (1 + math.exp(-r.margin)) - r.p_chosen) for r in results) / len(results)


def test_soft_targets_give_calibrated_margins_and_hard_ones_do_not(base: Path, tmp_path: Path) -> None:
    errors = {}
    for targets in ("soft", "hard"):
        job = make_job(tmp_path / targets, "reward", base, graded(), epochs=4, learning_rate=2e-3, targets=targets,
                       batch_size=16)
        run_job(job, SILENT)
        errors[targets] = held_out_error(job)
        figures = json.loads(job.metrics.read_text())["held_out"]
        assert figures["calibration_error"] == pytest.approx(errors[targets], abs=0.1)
    assert errors["soft"] < 0.08
    assert errors["hard"] > 0.15


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_published_folder_needs_no_peft_and_scores_as_measured(lora: Any, base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    data = preference_data(48, held_out=16)
    job = make_job(tmp_path, "reward", base, data, epochs=4, learning_rate=2e-3, lora=lora)
    run_job(job, SILENT)
    assert not list(job.final.glob("adapter*"))
    model = AutoModelForSequenceClassification.from_pretrained(job.final, dtype=torch.float32)
    assert type(model).__module__.startswith("transformers.")
    rows, _ = preference_rows(data, Templater(tiny_tokenizer("<pad>")), 32)
    results = parse((job.final / reward.HELD_OUT).read_text().splitlines())
    assert [r.index for r in results] == list(range(16))
    assert [r.reward_chosen for r in results] == pytest.approx(
        score_ids(model, [rows[r.index]["chosen_ids"] for r in results]), abs=1e-5)
    assert [r.reward_rejected for r in results] == pytest.approx(
        score_ids(model, [rows[r.index]["rejected_ids"] for r in results]), abs=1e-5)
    assert sum(r.margin > 0 for r in results) > 14


def test_low_rank_training_changes_the_head_and_is_the_same_after_a_restart(base: Path, tmp_path: Path) -> None:
    from cai_assets.train.problems import TrainingProblem

    class Stop(Reporter):
        def step(self, step: int, total: int, shown: Any) -> None:
            if step == 4:
                raise TrainingProblem("stopped on purpose")

    data = preference_data(64)
    jobs = [make_job(tmp_path / name, "reward", base, data, epochs=1, learning_rate=1e-3, save_every=2, lora=LORA)
            for name in ("straight", "stopped")]
    run_job(jobs[0], SILENT)
    with pytest.raises(TrainingProblem):
        run_job(jobs[1], Stop(lambda _: None))
    said: list[str] = []
    run_job(jobs[1], Reporter(said.append))
    assert said[0].startswith("resuming after step")
    one, other = (load_scalar(job.final, 0).state_dict() for job in jobs)
    assert max((one[k] - other[k]).abs().max().item() for k in one) < 1e-5
