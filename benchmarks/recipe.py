"""Every alternative of the recipe on the real model: ``python benchmarks/recipe.py [--only rl] [--json] [--data DIR]``.

One version is materialized with the settings of ``SMALLER``; then each alternative on the same data root, for the
assets that it changes, so that what it leaves alone is reused. A line says what was generated and trained and how long
it took; the exit code is 1 if an alternative fails. The 135M model shows that a setting works, not that it helps.
``CAI_`` settings apply.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from cai_assets.constitution.load import load_file
from cai_assets.defs.execute import materialize
from cai_assets.pipeline.project import Project
from cai_assets.store.records import Record
from cai_assets.versions.snapshots import VERSIONS

ROOT = Path(__file__).parents[1]
DATA = ROOT / "cai_assets" / "data"
SMALLER: dict[str, Any] = {
    "prompts": {"red_team": 12, "helpful": 4, "eval_red_team": 3, "eval_helpful": 3},
    "generation": {"max_tokens": 40}, "evaluation": {"max_tokens": 32, "suite_cases": 1},
    "rl": {"steps": 2, "max_tokens": 16}, "reward": {"epochs": 1}, "gate": {"pairs": 12},
}
SMALLEST = {"red_team": 4, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2}  # prompts
RL, REWARD = ("rl_policy",), ("reward_model",)
LABELS, PAIRS = ("preference_pairs",), ("response_pairs",)
CRITIQUE, SL = ("critiques", "revisions"), ("sl_dataset", "sl_policy")
GENERAL = "general-conversations.jsonl"  # written under the data root
LORA = {"rank": 8, "alpha": 16.0}


class Alternative(NamedTuple):
    """``name``: group and what it tries. ``assets``: those that it changes first; nothing below them is made."""

    name: str
    assets: tuple[str, ...]
    settings: dict[str, Any]


class Outcome(NamedTuple):
    """``numbers``: of the last asset's record: what training measured, or how its calls went."""

    name: str
    ok: bool
    generated: int
    reused: int
    trained: int
    seconds: float
    numbers: dict[str, Any]


ALTERNATIVES = (
    Alternative("rl: grpo", RL, {"rl": {"algorithm": "grpo", "group": 4}}),
    Alternative("rl: rloo", RL, {"rl": {"algorithm": "rloo", "group": 4}}),
    Alternative("rl: dpo", RL, {"rl": {"algorithm": "dpo"}}),
    Alternative("rl: reward by the labeler (direct-RLAIF)", RL, {"rl": {"reward": "labeller"}}),
    Alternative("rl: rubric of every principle", RL, {"rl": {"reward": "rubric"}}),
    Alternative("rl: rubric of two drawn principles, by groups", RL,
                {"rl": {"reward": "rubric", "principles": 2, "algorithm": "grpo", "group": 4}}),
    Alternative("rl: alpha", RL, {"rl": {"alpha": 1.0}}),
    Alternative("rl: lora, the reference with the adapter off", RL, {"rl": {"lora": LORA}}),
    Alternative("rl: adaptive KL in the loss", RL, {"rl": {"kl_in": "loss", "kl_target": 1.0}}),
    Alternative("rl: best by held-out reward", RL, {"rl": {"best": "reward", "held_out": 0.25, "save_every": 1}}),
    Alternative("rl: length and unfinished answers cost", RL,
                {"rl": {"length_penalty": 0.01, "missing_eos_penalty": 2.0}}),
    Alternative("reward: hard targets", REWARD, {"reward": {"targets": "hard"}}),
    Alternative("reward: lora, margin, centring", REWARD, {"reward": {"lora": LORA, "margin": 1.0, "centering": 0.01}}),
    Alternative("reward: human comparisons mixed in", REWARD,
                {"reward": {"human": {"path": str(DATA / "judge_pairs.jsonl"), "share": 0.5}}}),
    Alternative("labels: all principles at once", LABELS, {"labels": {"principles": "all"}}),
    Alternative("labels: a vote", LABELS, {"labels": {"principles": "vote"}, "gate": {"pairs": 2}}),
    Alternative("labels: chain of thought, clamped, two samples", LABELS, {"labels": {
        "chain_of_thought": True, "thought_tokens": 24, "samples": 2, "clamp": [0.4, 0.6]}}),
    Alternative("labels: chat style, no examples", LABELS, {"labels": {"style": "chat", "few_shots": False}}),
    Alternative("pairs: the generator's", PAIRS, {"pairs": {"source": "generator"}}),
    Alternative("pairs: initial response against revision", PAIRS, {"pairs": {"source": "revision"}}),
    Alternative("pairs: four candidates, two temperatures, each with each", PAIRS,
                {"pairs": {"candidates": 4, "temperatures": [0.5, 1.0], "combine": "all"}}),
    Alternative("critique: direct revision", CRITIQUE, {"critique": {"mode": "direct"}}),
    Alternative("critique: early stop", CRITIQUE, {"critique": {"stop_above": 0.8}}),
    Alternative("critique: shuffled control", CRITIQUE, {"critique": {"shuffle": True}}),
    Alternative("critique: chat style, no examples", CRITIQUE, {"critique": {"style": "chat", "few_shots": False}}),
    Alternative("sl: last revision, general data, lora", SL, {
        "supervised": {"keep": "last", "mix": [{"path": GENERAL, "share": 0.2}]}, "sl": {"lora": LORA}}),
)


def run(data: Path, only: str, *, smallest: bool = False) -> Iterator[Outcome]:
    """The starting version, then each alternative whose name starts with ``only``."""
    base = {**SMALLER, **({"prompts": SMALLEST} if smallest else {}), "data_root": str(data)}
    _write_conversations(data / GENERAL)
    key = Project.open(base).snapshots.register(load_file(ROOT / "constitutions" / "harmlessness.yaml"))
    yield _materialized(key, "the settings of smoke, smaller", (), base)
    for alternative in ALTERNATIVES:
        if alternative.name.startswith(only):
            chosen = json.loads(json.dumps(alternative.settings).replace(GENERAL, str(data / GENERAL)))
            yield _materialized(key, alternative.name, alternative.assets, _merged(base, chosen))


def _write_conversations(path: Path) -> None:
    """The answers that people chose in the bundled comparisons, as general conversations."""
    pairs = [json.loads(line) for line in (DATA / "judge_pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"messages": [
        {"role": "user", "content": p["prompt"]}, {"role": "assistant", "content": p["chosen"]}]}) + "\n"
        for p in pairs), encoding="utf-8")


def _materialized(key: str, name: str, assets: tuple[str, ...], overrides: dict[str, Any]) -> Outcome:
    start = time.monotonic()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [key])
        ok = materialize(instance, key, selection=assets, overrides=overrides).success
    seconds = time.monotonic() - start
    records = Project.open(overrides).records
    made = [records.latest(asset, key) for asset in assets or ("rl_policy",)] if ok else []
    return Outcome(name, ok, sum(r.generated for r in made), sum(r.reused for r in made),
                   sum(r.details.get("reused_checkpoint") is False for r in made), seconds,
                   _numbers(made[-1]) if made else {})


def _numbers(record: Record) -> dict[str, Any]:
    metrics = record.details.get("metrics")
    return {"rows": record.rows, "failed": record.failed} if metrics is None else \
        {k: v for k, v in metrics.items() if isinstance(v, int | float | dict)}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {k: {**base.get(k, {}), **v} for k, v in over.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="the start of names, such as 'rl'")
    parser.add_argument("--data", type=Path, help="a data root to go on with; default: a new one, removed at the end")
    parser.add_argument("--smallest", action="store_true", help="as the tests run it: a few prompts")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        failed = 0
        for outcome in run(arguments.data or Path(temporary), arguments.only, smallest=arguments.smallest):
            failed += not outcome.ok
            print(json.dumps(outcome._asdict()) if arguments.json else
                  f"{'ok' if outcome.ok else 'FAILED':6} {outcome.name}: {outcome.generated} generated, "
                  f"{outcome.reused} reused, {outcome.trained} trained, {outcome.seconds:.0f} s", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
