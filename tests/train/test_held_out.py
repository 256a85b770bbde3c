"""Measuring on prompts that are not trained on, publishing the best state, and adapters."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from peft import PeftModel  # noqa: E402
from rl_task import ALL, ONLINE, job_of, say_yes, trained, trainer_of  # noqa: E402
from tiny_models import make_job, supervised_data, tiny_tokenizer  # noqa: E402

from cai_assets.engines.adapters import CONFIG, WEIGHTS, adapters_of  # noqa: E402
from cai_assets.train.__main__ import run_job  # noqa: E402
from cai_assets.train.held_out import log_probabilities, repetition, sample  # noqa: E402
from cai_assets.train.progress import Curves, Reporter  # noqa: E402
from cai_assets.train.run import load_causal  # noqa: E402

SILENT = Reporter(lambda _: None)
PAD, STOP = tiny_tokenizer().pad_token_id, tiny_tokenizer().eos_token_id


pytestmark = pytest.mark.usefixtures("exact")
def test_log_probabilities_of_a_batch_are_those_of_each_alone(base: Path) -> None:
    model = load_causal(base)
    prompts, responses = [[5, 6, 7, 8], [9, 10]], [[11, 12], [13, 14, 15, STOP]]
    found = log_probabilities(model, prompts, responses, PAD, 2.0)
    for prompt, response, total in zip(prompts, responses, found.tolist(), strict=True):
        logps = (model(torch.tensor([prompt + response])).logits[0] / 2).log_softmax(-1)
        expected = sum(logps[len(prompt) + i - 1, token].item() for i, token in enumerate(response))
        assert total == pytest.approx(expected, abs=1e-4)


def test_a_sample_ends_with_its_first_stop_token(base: Path) -> None:
    torch.manual_seed(0)
    rows = sample(load_causal(base), [[5, 6]] * 64, [STOP], PAD, 12, 1.0)
    assert all(STOP not in row[:-1] for row in rows)
    assert {len(row) for row in rows if row[-1] != STOP} <= {12}
    assert any(row[-1] == STOP and len(row) < 12 for row in rows)


@pytest.mark.parametrize("algorithm", ONLINE)
def test_weights_cast_once_for_all_tokens_sample_what_casting_for_each_does(
    algorithm: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai_assets.train.run.product_format", lambda _: "bfloat16")
    found = []
    for around in (None, nullcontext):
        trainer = trainer_of(job_of(tmp_path / str(around is None), base, algorithm=algorithm))
        trainer.accelerator.prepare_model(trainer.model)  # each forward pass casts, as in training
        if around:
            monkeypatch.setattr(trainer.accelerator, "autocast", around)
        else:
            assert trainer.args.bf16
        torch.manual_seed(0)
        found.append(trainer._generate([row["prompt"] for row in trainer.train_dataset.select(range(4))])[1])
    assert found[0] == found[1]


def test_repetition_is_the_share_of_4_grams_seen_before() -> None:
    assert repetition([1, 2, 3]) == 0
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([7] * 8) == pytest.approx(4 / 5)


@pytest.mark.parametrize("algorithm", ALL)
def test_measuring_changes_nothing_in_the_training(algorithm: str, base: Path, tmp_path: Path) -> None:
    """Measured once or at each step, the weights come out the same; held-out prompts are never trained on."""
    ends = []
    for name, best, every in (("last", "last", 2), ("best", "reward", 1)):
        job = job_of(tmp_path / name, base, held_out=4, algorithm=algorithm, best=best, save_every=every, steps=3,
                     learning_rate=1e-3, epochs=1)  # fmt: skip
        trainer = trainer_of(job)
        held = {tuple(row["prompt"]) for row in trainer.task.held_out}
        column = "prompt_ids" if algorithm == "dpo" else "prompt"
        assert not held & {tuple(row[column]) for row in trainer.train_dataset}
        trainer.args.load_best_model_at_end = False
        trained(job, trainer)
        ends.append([p.detach().clone() for p in trainer.model.parameters()])
        rows = Curves(job.curves).rows()
        measured = [row["step"] for row in rows if "held_out_reward" in row]
        assert measured == ([len(rows)] if best == "last" else list(range(1, len(rows) + 1)))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("algorithm", ONLINE)
def test_the_best_saved_state_is_published(
    algorithm: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reward turns against what was learnt: the best state lies in the middle."""
    calls = {"n": 0}

    def turning(completion_ids: list[list[int]], log_metric: Any = None, **_: Any) -> list[float]:
        calls["n"] += log_metric is not None
        scores = say_yes(completion_ids)
        return scores if calls["n"] <= 12 or log_metric is None else [-s for s in scores]

    monkeypatch.setattr("cai_assets.train.reinforcement.reward_of", lambda *_: turning)
    job = job_of(tmp_path, base, held_out=8, algorithm=algorithm, best="reward", save_every=4, steps=28, rollouts=16,
                 batch_size=8, learning_rate=3e-3, beta=0.0, missing_eos_penalty=0.0)  # fmt: skip
    run_job(job, SILENT)
    metrics = json.loads(job.metrics.read_text())
    rows = Curves(job.curves).rows()
    measured = {row["step"]: row["held_out_reward"] for row in rows if "held_out_reward" in row}
    best = max(measured, key=lambda step: measured[step])
    assert metrics["published_step"] == best < 28
    assert metrics["held_out_reward_last"] == measured[best] > measured[28]
    texts = sample(load_causal(job.final), [[5, 6]] * 64, [STOP], PAD, 6, 1.0)
    assert sum(say_yes(texts)) / 64 > measured[28] + 0.2


LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.1}


@pytest.mark.parametrize("algorithm", ALL)
def test_with_lora_the_reference_is_the_policy_without_its_adapters(
    algorithm: str, base: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path, base, held_out=4, algorithm=algorithm, lora=LORA, learning_rate=1e-2, steps=3, epochs=1)
    trainer = trainer_of(job)
    assert trainer.ref_model is None
    trained(job, trainer)
    frozen = {n: p for n, p in trainer.model.get_base_model().named_parameters() if "lora" not in n}
    start = dict(load_causal(base).named_parameters())
    for name, p in frozen.items():
        assert torch.equal(p, start[name.replace(".base_layer", "")])
    trainer.model.eval()
    arguments = ([[5, 6]], [[7, 8, 9]], PAD, 1.0)
    with torch.no_grad(), trainer._reference() as reference:
        before = log_probabilities(reference, *arguments)
    assert torch.allclose(before, log_probabilities(load_causal(base), *arguments), atol=1e-6)
    assert not torch.allclose(before, log_probabilities(trainer.model, *arguments), atol=1e-6)


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(torch.tensor([[5, 6, 7, 8]])).logits.log_softmax(-1)


@pytest.mark.parametrize("kind", ["supervised", "reinforcement"])
def test_adapters_are_merged_into_what_is_published(
    kind: Any, base: Path, scorer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_assets.train import run

    seen: list[Any] = []

    def noted(model: Any) -> Any:
        seen.append(logits(model))
        return merged(model)

    merged = run.merged
    monkeypatch.setattr(run, "merged", noted)
    if kind == "supervised":
        job = make_job(tmp_path, kind, base, supervised_data(16), lora=LORA, learning_rate=1e-2)
    else:
        job = job_of(tmp_path, base, lora=LORA, learning_rate=1e-2).model_copy(update={"reward_model": scorer})
    run_job(job.model_copy(update={"base_weights": "the base"}), SILENT)
    assert not list(job.final.glob("adapter*.*"))
    assert torch.allclose(logits(load_causal(job.final)), seen[0], atol=1e-5)
    assert not torch.allclose(logits(load_causal(base)), seen[0], atol=1e-3)
    again = make_job(tmp_path / "again", "supervised", job.final, supervised_data(16), lora=LORA | {"alpha": 4},
                     learning_rate=1e-2)
    run_job(again.model_copy(update={"base_weights": "the first"}), SILENT)
    for folder, rank in ((job.final, LORA["rank"]), (again.final, 2 * LORA["rank"])):  # both as adapters of the base
        kept = adapters_of(folder)
        assert kept == (folder / "adapter", "the base", rank)
        assert sorted(path.name for path in kept.folder.iterdir()) == [CONFIG, WEIGHTS]
        on_base = PeftModel.from_pretrained(load_causal(base), kept.folder)
        assert torch.allclose(logits(on_base), logits(load_causal(folder)), atol=1e-5)
    assert not torch.allclose(logits(load_causal(again.final)), seen[0], atol=1e-3)


@pytest.mark.parametrize("algorithm", ["ppo", "dpo"])
def test_adapters_resume(algorithm: str, base: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"algorithm": algorithm, "lora": LORA | {"dropout": 0.0}, "learning_rate": 1e-2,
                               "save_every": 2, "steps": 4, "epochs": 1}
    straight = job_of(tmp_path / "straight", base, **changes)
    whole = trainer_of(straight)
    trained(straight, whole)
    job = job_of(tmp_path / "stopped", base, **changes)
    first = trainer_of(job)
    first.args.max_steps = whole.state.max_steps // 2 if algorithm == "ppo" else 2
    trained(job, first)
    second = trainer_of(job)
    trained(job, second)
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert (a - b).abs().max().item() < 1e-4
    if algorithm == "ppo":
        assert len(second.value_model.trained()) < len(list(second.value_model.parameters()))
        for a, b in zip(whole.value_model.parameters(), second.value_model.parameters(), strict=True):
            assert (a - b).abs().max().item() < 1e-4
