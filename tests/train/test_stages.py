"""The three stages as a whole, on tiny models: what they train on, what they leave, how they fail and go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from model_fixtures import prepared_model

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import (  # noqa: E402
    make_job,
    preference_data,
    prompt_data,
    supervised_data,
    tiny_tokenizer,
    user,
)

from cai_assets.engines.templating import Templater  # noqa: E402
from cai_assets.settings import PRESETS, Tuning, load_settings  # noqa: E402
from cai_assets.train import reinforcement, reward, scoring, supervised  # noqa: E402
from cai_assets.train.__main__ import main, run_job  # noqa: E402
from cai_assets.train.data import supervised_rows  # noqa: E402
from cai_assets.train.job import Job  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.progress import Curves, Reporter  # noqa: E402
from cai_assets.train.run import load_causal, load_scalar  # noqa: E402

SILENT = Reporter(lambda _: None)
FILES = {"chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def largest_difference(a: Path, b: Path) -> float:
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    return max((one[k].float() - other[k].float()).abs().max().item() for k in one)


@pytest.mark.parametrize("scale", PRESETS)
def test_every_preset_makes_valid_configs(scale: str, base: Path, tmp_path: Path) -> None:
    settings = load_settings({"scale": scale}, environment={})
    job = make_job(tmp_path, "supervised", base, supervised_data(1))
    assert supervised.make_config(job, settings.sl).max_length is None
    assert reward.make_config(job, settings.reward).learning_rate == settings.reward.learning_rate
    ppo = reinforcement.make_config(job, settings.rl)
    assert ppo.max_steps == settings.rl.steps * reinforcement.updates_per_step(settings.rl)
    assert ppo.logging_nan_inf_filter is False


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_applies_to_every_schedule(schedule: str, base: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, "supervised", base, supervised_data(32), schedule=schedule, warmup_ratio=0.5)
    run_job(job, SILENT)
    rates = [row["learning_rate"] for row in Curves(job.curves).rows()]
    assert rates[0] == 0
    assert max(rates) > 0


def test_the_loss_is_that_of_the_response_tokens_alone(exact: None, base: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, "supervised", base, supervised_data(5))
    templater = Templater(tiny_tokenizer())
    rows, _ = supervised_rows(supervised_data(5), templater, 32)
    trainer = supervised.make_trainer(job, Tuning.model_validate(job.settings), rows, tiny_tokenizer())
    batch = next(iter(trainer.get_train_dataloader()))
    responses = [templater.encode_response(r["messages"], r["response"])[1] for r in supervised_data(5)]
    assert int((batch["labels"] != -100).sum()) == sum(map(len, responses))
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert loss == pytest.approx(_likelihood_by_hand(load_causal(base), rows, responses), abs=1e-5)


def _likelihood_by_hand(model: Any, rows: list[dict[str, Any]], responses: list[list[int]]) -> float:
    total = 0.0
    for row, response in zip(rows, responses, strict=True):
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logps = model(ids).logits.log_softmax(-1)
        start = ids.shape[1] - len(response)
        total -= sum(logps[0, start + t - 1, token].item() for t, token in enumerate(response))
    return total / sum(map(len, responses))


def test_supervised_learning_publishes_a_policy(base: Path, tmp_path: Path) -> None:
    rows = [*supervised_data(31), {"messages": user("red"), "response": "yes " * 60}]
    job = make_job(tmp_path, "supervised", base, rows, epochs=4, learning_rate=3e-3).model_copy(
        update={"dtype": "bfloat16"}
    )
    said: list[str] = []
    run_job(job, Reporter(said.append))
    metrics = json.loads(job.metrics.read_text())
    assert (metrics["rows"], metrics["rows_dropped"], metrics["steps"]) == (31, 1, 16)
    assert metrics["loss_last"] < metrics["loss_first"]
    assert "1 of 32 rows dropped" in said[0]
    assert (metrics["rows_read"], metrics["rows_cut"]) == (32, 0)
    assert {p.name for p in job.final.iterdir()} == FILES | {"generation_config.json"}
    assert {w.dtype for w in weights(job.final).values()} == {torch.bfloat16}
    assert not job.state.exists()
    assert len(Curves(job.curves).rows()) == 16


def test_a_reward_model_sees_the_end_of_turn_and_ranks_unseen_pairs(
    exact: None, base: Path, tmp_path: Path
) -> None:
    job = make_job(tmp_path, "reward", base, preference_data(48, held_out=16), epochs=4, learning_rate=1e-3)
    run_job(job, SILENT)
    held_out = json.loads(job.metrics.read_text())["held_out"]
    assert held_out["n"] == 16
    assert held_out["accuracy_low"] < held_out["accuracy"] <= held_out["accuracy_high"]
    assert held_out["accuracy"] > 0.9
    assert held_out["length_accuracy"] == 1  # 'yes' has a letter more than 'no'
    assert (held_out["refusal_accuracy"], held_out["refusal_undecided"]) == (0.5, 16)
    assert {p.name for p in job.final.iterdir()} == FILES | {"held_out.jsonl"}
    tokenizer = supervised.load_tokenizer(job.final)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    model = load_scalar(job.final, tokenizer.pad_token_id)
    conversations = [[*user("red"), {"role": "assistant", "content": text}] for text in ("yes", "no two three one")]
    together = scoring.score(model, tokenizer, conversations)
    alone = [scoring.score(model, tokenizer, [c])[0] for c in conversations]
    assert together == pytest.approx(alone, abs=1e-5)
    padded = torch.tensor([[5, 6, 3, tokenizer.pad_token_id]])
    assert model(padded).logits.item() == pytest.approx(scoring.score_ids(model, [[5, 6, 3]])[0], abs=1e-5)
    sequences = [[5] * n + [3] for n in (2, 9, 1, 5, 7, 3)]
    by_one = [scoring.score_ids(model, [ids])[0] for ids in sequences]
    assert scoring.score_ids(model, sequences, 2) == pytest.approx(by_one, abs=1e-5)
    assert list(scoring._batches(sequences, 2, 24)) == [[1, 4], [3, 5, 0, 2]]  # of 24 tokens, or 2 sequences
    assert scoring.score_ids(model, [[5, 6, 3]])[0] != pytest.approx(scoring.score_ids(model, [[5, 6]])[0], abs=1e-6)


def test_reinforcement_publishes_a_policy(base: Path, scorer: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, "reinforcement", base, prompt_data(), reward_model=scorer, steps=3, max_tokens=6,
                   learning_rate=1e-3)  # fmt: skip
    run_job(job, SILENT)
    metrics = json.loads(job.metrics.read_text())
    assert metrics["steps"] == 3
    assert 0 < metrics["tokens_generated"] <= 3 * 8 * 6
    assert {p.name for p in job.final.iterdir()} == FILES | {"generation_config.json"}
    assert largest_difference(job.final, base) > 0
    expected = {"reward", "score", "kl", "policy_loss", "value_loss", "entropy", "clip_fraction", "eos_rate"}
    assert expected <= Curves(job.curves).rows()[0].keys()


KILLED = """
import os, signal, sys
from pathlib import Path
from cai_assets.train.__main__ import run_job
from cai_assets.train.job import Job
from cai_assets.train.progress import Reporter

class Killer(Reporter):
    def step(self, step, total, shown):
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)

sys.modules["vllm"] = None
run_job(Job.model_validate_json(Path(sys.argv[1]).read_bytes()), Killer(print))
"""


@pytest.mark.fault("kill -9 of a training run, which then goes on to the same weights")
@pytest.mark.parametrize("kind", ["supervised", "reward", "reinforcement"])
def test_a_killed_training_goes_on_to_the_same_weights(kind: Any, base: Path, scorer: Path, tmp_path: Path) -> None:
    rows = {"supervised": supervised_data(64), "reward": preference_data(64), "reinforcement": prompt_data()}[kind]
    changes: dict[str, Any] = {"learning_rate": 1e-3, "save_every": 4, "epochs": 1}
    if kind == "reinforcement":
        changes |= {"steps": 8, "max_tokens": 6, "batch_size": 4, "reward_model": scorer}
    straight = make_job(tmp_path / "straight", kind, base, rows, **changes)
    run_job(straight, SILENT)
    killed = make_job(tmp_path / "killed", kind, base, rows, **changes)
    file = tmp_path / "job.json"
    file.write_text(killed.model_dump_json())
    process = subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not killed.final.exists()
    said: list[str] = []
    run_job(killed, Reporter(said.append))
    assert said[0] == "resuming after step 4"
    assert largest_difference(killed.final, straight.final) < 1e-5
    steps = [row["step"] for row in Curves(killed.curves).rows()]
    assert steps == list(range(1, len(steps) + 1))


def spoiled(base: Path, folder: Path) -> Path:
    """The base with one weight that is not a number."""
    model = load_causal(base)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.fault("a loss that is no number, or a policy that explodes")
@pytest.mark.parametrize("kind", ["supervised", "reward"])
def test_a_loss_that_is_not_a_number_stops_and_publishes_nothing(kind: Any, base: Path, tmp_path: Path) -> None:
    rows = {"supervised": supervised_data(16), "reward": preference_data(24)}[kind]
    job = make_job(tmp_path, kind, spoiled(base, tmp_path / "bad"), rows, save_every=1)
    with pytest.raises(TrainingProblem, match=r"loss is nan at step 1 \(learning rate .*Lower the learning rate"):
        run_job(job, SILENT)
    assert not job.final.exists()
    assert not list(job.work.glob("state/checkpoint-*"))


@pytest.mark.fault("a loss that is no number, or a policy that explodes")
def test_a_policy_that_explodes_stops_and_publishes_nothing(base: Path, scorer: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, "reinforcement", base, prompt_data(), reward_model=scorer, steps=3, max_tokens=6,
                   learning_rate=1e30)  # fmt: skip
    with pytest.raises(TrainingProblem, match=r"at step 2 \(learning rate 1e\+30\)"):
        run_job(job, SILENT)
    assert not job.final.exists()


def test_the_command_ends_with_one_clear_line(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(tmp_path, "reward", base, [row | {"held_out": True} for row in preference_data(4)])
    file = tmp_path / "job.json"
    file.write_text(job.model_dump_json())
    assert main([str(file)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("training failed: ")
    assert "no pair to train on" in error[-1]
    assert main([str(tmp_path / "none.json")]) == 1
    assert main([]) == 1
    assert capsys.readouterr().err.count("training failed: ") == 2


def real_job(kind: Any, folder: Path, base: Path) -> Job:
    rows = {
        "supervised": [{"messages": user("Say hello."), "response": "Hello! How can I help?"}] * 8,
        "reward": [{"messages": user("Say hello."), "chosen": "Hello!", "rejected": "No.", "p_chosen": 0.9,
                    "held_out": i < 2} for i in range(10)],
        "reinforcement": [{"messages": user("Say hello."), "held_out": False}] * 4,
    }[kind]  # fmt: skip
    changes: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-4, "max_length": 64}
    if kind == "reinforcement":
        changes |= {"steps": 1, "rollouts": 4, "batch_size": 4, "max_tokens": 8, "reward_model": base}
    return make_job(folder, kind, base, rows, **changes).model_copy(update={"dtype": "bfloat16"})


@pytest.mark.model
@pytest.mark.parametrize("kind", ["supervised", "reward", "reinforcement"])
def test_the_command_trains_the_real_model(kind: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    base = prepared_model().path
    job = real_job(kind, tmp_path, base)
    file = tmp_path / "job.json"
    file.write_text(job.model_dump_json())
    command = [sys.executable, "-m", "cai_assets.train", str(file)]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr.startswith("step 1/1")
    loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    assert loader.from_pretrained(job.final).config.vocab_size > 40_000
    after, before = weights(job.final), weights(base)
    assert any((after[k] != before[k].to(after[k].dtype)).any() for k in before if k in after)
    assert job.metrics.is_file()
