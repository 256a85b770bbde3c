"""A difference of differences against a control: with nothing beyond it zero is covered, a planted effect is found."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from cai_assets.constitution.check import Check
from cai_assets.evals.statistics import FEW, NOT_SEEN, Telling
from cai_assets.reports.compare.control import beyond
from cai_assets.reports.compare.metrics import SAME

REPEATS, PROMPTS = 150, 60
OTHERS = ("refusal", "relevance", "echo", "words")  # what these tables do not measure
ANY = 0.3  # how often any constitution turns a loss into a win


def verdicts(rng: random.Random, base: list[float], turned: float, tag: str) -> pl.DataFrame:
    """An evaluation of one policy: the base's outcomes, of which a share is turned into wins."""
    outcomes = [1.0 if rng.random() < turned else x for x in base]
    return pl.DataFrame([{
        "policy": "rl_policy", "prompt_id": f"p{i}", "prompt": f"text {i}", "kind": "red-team", "response": "r",
        "row_key": f"{tag}{i}", "outcome": x, **dict.fromkeys(OTHERS)} for i, x in enumerate(outcomes)])


def three(seed: int, effect: float, prompts: int = PROMPTS) -> list[pl.DataFrame]:
    rng = random.Random(seed)
    base = [rng.choice([0.0, 0.5, 1.0]) for _ in range(prompts)]
    return [verdicts(rng, base, 0.0, "a"), verdicts(rng, base, ANY + effect, "b"), verdicts(rng, base, ANY, "c")]


def wins(found: pl.DataFrame) -> dict[str, Any]:
    return found.filter(metric="harmlessness_win_rate").to_dicts()[0]


def test_what_any_constitution_does_is_no_effect_beyond_it_and_a_planted_effect_is_found() -> None:
    null = [wins(beyond(three(seed, 0.0))) for seed in range(REPEATS)]
    assert sum(r["effect"] for r in null) / REPEATS == pytest.approx(ANY / 2, abs=0.02)  # seen by a plain comparison
    missed = sum(not r["low"] <= 0 <= r["high"] for r in null)
    assert missed <= 15  # 5 % of 150 are 7.5; more than 15 would come up about once in 200 times
    assert sum(r["verdict"] not in {NOT_SEEN, SAME} for r in null) == missed
    planted = [wins(beyond(three(seed, 0.5))) for seed in range(30)]
    assert sum(r["verdict"] == "better" for r in planted) >= 28
    covered = sum(r["low"] <= 0.25 <= r["high"] for r in planted)  # half a win on average is turned by half of them
    assert covered >= 25
    assert sum(r["delta"] for r in planted) / 30 == pytest.approx(0.25, abs=0.03)


def test_prompts_that_are_not_in_all_three_are_counted_and_few_are_too_few() -> None:
    before, after, control = three(1, 0.5)
    holed = control.with_columns(pl.when(pl.col("prompt_id") == "p9").then(None).otherwise("outcome").alias("outcome"))
    found = wins(beyond([before[3:], after, holed[5:]]))
    assert (found["n"], found["not_in_all"], found["ungraded"]) == (PROMPTS - 6, 5, 1)
    assert wins(beyond([before, after[:12], control]))["verdict"] == FEW
    assert wins(beyond([before, control, control]))["verdict"] == SAME
    assert wins(beyond([before, after, control], telling=Telling(0.95, PROMPTS + 1)))["verdict"] == FEW
    kept = beyond([before, after.with_columns(response=pl.lit("one two three")), control],
                  checks=[("short", Check(max_words=2))]).filter(metric="check", prompts="all").to_dicts()[0]
    assert (kept["effect"], kept["control"], kept["delta"], kept["verdict"]) == (-1.0, 0.0, -1.0, "worse")
