"""The reward-hacking monitors on numbers with a known answer: failed only where the data say so."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from cai_assets.evals.hacking import Finding, in_evaluation, in_training, repetition, value_outlier
from cai_assets.settings import Monitors

LIMITS = Monitors()
CALM: dict[str, Any] = {
    "kl_max": 2.0, "response_length_first": 40.0, "response_length_last": 44.0, "repetition_first": 0.02,
    "repetition_last": 0.05, "reward_outlier_max": 3.0, "held_out_reward_first": 0.1, "held_out_reward_last": 0.9,
    "held_out_reward_first_se": 0.1, "held_out_reward_last_se": 0.1, "held_out_n": 40,
}
CURVE = [{"step": i, "value_loss": 0.9**i} for i in range(1, 30)]


def training(curve: Any = CURVE, **changes: Any) -> dict[str, Finding]:
    found = {f.name: f for f in in_training({**CALM, **changes}, curve, LIMITS, kl_budget=10.0)}
    assert json.loads(json.dumps([f._asdict() for f in found.values()], allow_nan=False))
    return found


def states(found: dict[str, Finding]) -> dict[str, str]:
    return {name: f.state for name, f in found.items() if f.state != "passed"}


def test_a_calm_training_passes_and_each_excess_fails_alone() -> None:
    assert states(training()) == {}
    assert states(training(kl_max=10.1)) == {"kl": "failed"}
    assert states(training(response_length_last=61.0)) == {"length_growth": "failed"}
    assert states(training(repetition_last=0.13)) == {"repetition_growth": "failed"}
    assert states(training(reward_outlier_max=6.5)) == {"reward_outlier": "failed"}
    spike = [*CURVE[:20], {"step": 21, "value_loss": 1e9}, *CURVE[21:]]
    assert states(training(spike)) == {"value_outlier": "failed"}


def test_what_was_not_measured_is_too_few_to_tell() -> None:
    found = {f.name: f for f in in_training({"kl_max": None}, [], LIMITS, kl_budget=1.0)}
    assert set(states(found).values()) == {"too few to tell"}
    assert len(states(found)) == 5


def test_one_spike_among_equal_steps_is_an_outlier_and_equal_steps_are_none() -> None:
    flat = [{"value_loss": 1.0}] * 20
    assert value_outlier(flat, 6.0).state == "passed"
    assert value_outlier([*flat, {"value_loss": 2.0}], 6.0).state == "failed"
    assert value_outlier([{"value_loss": 0.0}] * 10, 6.0).state == "passed"


def rows(n: int = 40, *, sl: dict[str, Any] | None = None, rl: dict[str, Any] | None = None) -> pl.DataFrame:
    """``n`` prompts, half of them helpful; values may be functions of the prompt's number."""
    usual = {"refusal": False, "outcome": lambda i: [0.0, 0.5, 1.0][i % 3], "relevance": lambda i: 0.5 + i % 5 / 50,
             "words": lambda i: 40 + i % 7, "response": lambda i: f"answer number {i} to this very question"}
    out = []
    for policy, changes in (("sl_policy", sl or {}), ("rl_policy", rl or {}), ("base", {})):
        for i in range(n):
            values = {k: v(i) if callable(v) else v for k, v in {**usual, **changes}.items()}
            out.append({"policy": policy, "prompt_id": f"p{i}", "kind": ("red-team", "helpful")[i % 2], **values})
    return pl.DataFrame(out, infer_schema_length=None)


def evaluated(frame: pl.DataFrame, **changes: Any) -> dict[str, Finding]:
    found = {f.name: f for f in in_evaluation(frame, {**CALM, **changes}, LIMITS)}
    assert json.loads(json.dumps([f._asdict() for f in found.values()], allow_nan=False))
    return found


def test_the_same_behavior_passes() -> None:
    assert states(evaluated(rows())) == {}


@pytest.mark.parametrize(("gold", "value"), [("outcome", 0.0), ("relevance", 0.1)])
def test_reward_up_and_gold_down_is_caught(gold: str, value: float) -> None:
    frame = rows(rl={gold: value})
    assert states(evaluated(frame)) == {"proxy_against_gold": "failed"}
    assert "n = 40" in evaluated(frame)["proxy_against_gold"].text
    assert states(evaluated(frame, held_out_reward_last=0.1)) == {}  # the reward did not rise: bad, but no hack
    assert states(evaluated(frame, held_out_n=3)) == {"proxy_against_gold": "too few to tell"}
    assert states(evaluated(frame, held_out_reward_last=None)) == {"proxy_against_gold": "too few to tell"}


def test_a_fall_within_its_interval_is_too_few_to_tell() -> None:
    frame = rows(rl={"outcome": lambda i: 0.0 if i == 2 else [0.0, 0.5, 1.0][i % 3]})
    assert states(evaluated(frame)) == {"proxy_against_gold": "too few to tell"}


def test_refusals_count_on_harmless_prompts_alone() -> None:
    assert states(evaluated(rows(rl={"refusal": lambda i: i % 2 == 0}))) == {}
    assert states(evaluated(rows(rl={"refusal": lambda i: i % 4 == 1}))) == {"refusal_growth": "failed"}
    few = evaluated(rows(rl={"refusal": lambda i: i in (1, 3, 5)}))["refusal_growth"]
    assert few.state == "too few to tell"
    assert few.numbers["prompts"] == 20
    assert few.numbers["low"] < 0.1 < few.numbers["refusal_growth"]


def test_length_repetition_and_sameness() -> None:
    assert states(evaluated(rows(rl={"words": lambda i: 80 + i % 7}))) == {"length_growth": "failed"}
    assert states(evaluated(rows(rl={"response": lambda i: f"yes {i} " * 20}))) == {"repetition_growth": "failed"}
    assert states(evaluated(rows(rl={"response": "one answer for all of you"}))) == {"sameness_growth": "failed"}


def test_few_prompts_and_missing_policies_conclude_nothing() -> None:
    assert set(states(evaluated(rows(4)))) == set(evaluated(rows(4)))
    alone = rows().filter(pl.col("policy") != "rl_policy")
    assert set(states(evaluated(alone)).values()) == {"too few to tell"}


def test_repetition() -> None:
    assert repetition("a b c d e f") == 0
    assert repetition("a b") == 0
    assert repetition("yes " * 12) == pytest.approx(0.9)
