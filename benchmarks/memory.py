"""Memory of trainings: what a plan says (``train/memory.py``) against the measured peak of the training's own process.

    python benchmarks/memory.py              the bundled model, every training
    python benchmarks/memory.py --half       a model of 0.5B parameters, initialized at random, on the spot
    python benchmarks/memory.py --smallest   one training of whatever model is set

Every row is as long as is allowed, so that the largest minibatch is the one that is planned. Two steps each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from cai_assets.engines.models import prepare
from cai_assets.engines.number_format import Format
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.settings import Settings, load_settings
from cai_assets.store.layout import Layout
from cai_assets.train.choice import as_set, changed_by
from cai_assets.train.identity import TRAINING_GROUP
from cai_assets.train.job import Job, TrainingKind
from cai_assets.train.memory import resident_peak

STEPS = 2
DTYPE: Format = "float32"  # planned and trained in the same
WORD = "word "
HALF = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True, "max_position_embeddings": 2048}


class Case(NamedTuple):
    """One training: rows of a minibatch, tokens of a row, and further settings."""

    name: str
    kind: TrainingKind
    rows: int
    tokens: int
    settings: dict[str, Any]


RL: dict[str, Any] = {"rollouts": 8, "group": 4, "max_tokens": 32, "steps": STEPS}
CASES = (
    Case("SFT", "supervised", 4, 256, {}),
    Case("SFT", "supervised", 8, 256, {}),
    Case("SFT, LoRA", "supervised", 4, 128, {"lora": {"rank": 16}}),
    Case("SFT, checkpointing", "supervised", 8, 256, {"checkpointing": True}),
    Case("reward model", "reward", 4, 128, {}),
    Case("DPO", "reinforcement", 4, 128, {**RL, "algorithm": "dpo"}),
    Case("GRPO", "reinforcement", 4, 192, {**RL, "algorithm": "grpo"}),
    Case("RLOO", "reinforcement", 4, 192, {**RL, "algorithm": "rloo"}),
    Case("PPO", "reinforcement", 4, 192, {**RL, "algorithm": "ppo"}),
    Case("PPO, one trunk", "reinforcement", 4, 192, {**RL, "algorithm": "ppo", "value_model": "shared"}),
)
OF_HALF = (
    Case("SFT", "supervised", 2, 128, {}),
    Case("reward model", "reward", 2, 64, {}),
    Case("DPO", "reinforcement", 2, 64, {**RL, "algorithm": "dpo"}),
    Case("GRPO", "reinforcement", 2, 128, {**RL, "algorithm": "grpo"}),
)
SMALLEST = (Case("SFT", "supervised", 1, 32, {}),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--smallest", action="store_true")
    given = parser.parse_args()
    settings = load_settings({"engine": {"dtype": DTYPE}})
    base = prepare(settings.models.role("policy"), Layout(settings.data_root)).path
    print("| training | rows x tokens | planned, GB | measured, GB | planned / measured | seconds |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        base = _half(base, Path(folder) / "half") if given.half else base
        ratios = list(_ratios(base, settings, SMALLEST if given.smallest else OF_HALF if given.half else CASES))
    print(f"ratio of planned to measured {min(ratios):.2f} to {max(ratios):.2f}")


def _ratios(base: Path, settings: Settings, cases: tuple[Case, ...]) -> Iterator[float]:
    for case in cases:
        name = TRAINING_GROUP[case.kind]
        group = changed_by(getattr(settings, name), {"batch_size": case.rows, "max_length": case.tokens,
                                                     "gradient_accumulation": 1, **case.settings})
        rewarded = case.kind == "reinforcement" and case.settings["algorithm"] != "dpo"
        fit = as_set(base, settings.model_copy(update={name: group}), case.kind, base if rewarded else None)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            measured = _measured(_job(Path(folder), base, case, group.model_dump(mode="json"), rewarded))
        planned = fit.need.total
        print(f"| {case.name} | {case.rows} x {case.tokens} | {planned / 1e9:.2f} | {measured / 1e9:.2f} "
              f"| {planned / measured:.2f} | {time.monotonic() - begun:.0f} |", flush=True)
        yield planned / measured


def _measured(job: Job) -> int:
    file = job.work.parent / "job.json"
    file.write_text(job.model_dump_json())
    process = subprocess.Popen([sys.executable, "-m", "cai_assets.train", str(file)], stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident_peak(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(process.stderr.read() if process.stderr else "the training failed")
    return peak


def _job(folder: Path, base: Path, case: Case, settings: dict[str, Any], rewarded: bool) -> Job:
    templater = Templater(load_tokenizer(base))
    prompt, response = "Say it", ""
    if rewarded:  # the policy samples, as a rule to the end
        prompt = WORD * _words(case.tokens - settings["max_tokens"],
                               lambda n: len(templater.encode_chat(_user(WORD * n))))
    else:
        response = WORD * _words(case.tokens,
                                 lambda n: sum(map(len, templater.encode_response(_user(prompt), WORD * n))))
    row = {"messages": _user(prompt), "response": response, "chosen": response, "rejected": response, "p_chosen": 0.9,
           "held_out": False}
    pl.DataFrame([row] * max(8, case.rows * STEPS)).write_parquet(folder / "data.parquet")
    return Job(kind=case.kind, key="k", base=base, data=folder / "data.parquet", work=folder / "work",
               settings=settings, dtype=DTYPE, reward_model=_scorer(base, folder / "scorer") if rewarded else None)


def _words(tokens: int, length: Callable[[int], int]) -> int:
    """The most words that stay within so many tokens."""
    return next(n for n in range(tokens, 0, -1) if length(n) <= tokens)


def _user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def _scorer(base: Path, folder: Path) -> Path:
    from cai_assets.train.run import load_scalar, quiet

    quiet()
    tokenizer = load_tokenizer(base)
    load_scalar(base, tokenizer.eos_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _half(base: Path, folder: Path) -> Path:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    config = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=0, **HALF)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
