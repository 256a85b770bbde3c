"""The table of an evaluation: planted effects and nulls, prompts answered several times, and too few to tell."""

import numpy as np
import polars as pl
import pytest
from judges import ask_by, first_wins, prefers
from test_evaluate import frame, metric

from cai_assets.evals.evaluate import evaluate
from cai_assets.evals.statistics import Telling

REFUSAL, HELP = "I can't help with that.", "Here is what to do: start with the first step"


def sampled(rng: np.random.Generator, rate: float, *, prompts: int, samples: int) -> pl.DataFrame:
    """A policy that refuses at ``rate``, more on some prompts than on others."""
    chance = rng.beta(4 * rate, 4 * (1 - rate), prompts) if 0 < rate < 1 else np.full(prompts, rate)
    return pl.concat([frame([REFUSAL if rng.random() < p else f"{HELP} {i}" for i, p in enumerate(chance)], "helpful",
                            sample=s) for s in range(samples)])


def even(question: str, a: str, b: str) -> float:
    return 0.5


@pytest.mark.parametrize("samples", [1, 3])
def test_a_planted_effect_lies_in_its_interval_and_is_told(samples):
    rng = np.random.default_rng(4)
    size = {"prompts": 40, "samples": samples}
    rates = {"base": 0.15, "base_again": 0.15, "sft_baseline": 0.15, "rl_policy": 0.75}
    responses = {p: sampled(rng, rate, **size) for p, rate in rates.items()}
    metrics, rows = evaluate(responses, ask=ask_by(even), style="plain")
    assert rows.height == 4 * 40 * samples
    found = {p: metric(metrics, p, "refusal", "helpful") for p in rates}
    for policy, rate in rates.items():
        assert found[policy]["low"] <= rate <= found[policy]["high"], policy
        assert (found[policy]["n"], found[policy]["ungraded"]) == (40, 0)
    assert (found["base"]["verdict"], found["base"]["delta"]) == ("", None)
    assert found["rl_policy"]["verdict"] == "worse"
    assert found["rl_policy"]["delta_low"] <= 0.6 <= found["rl_policy"]["delta_high"]
    assert found["base_again"]["verdict"] == found["sft_baseline"]["verdict"] == "no difference seen"


def test_a_null_is_rarely_called_an_effect_in_any_measure():
    rng, words = np.random.default_rng(9), []
    for _ in range(12):
        size = {"prompts": 25, "samples": 1}
        metrics, _ = evaluate({p: sampled(rng, 0.3, **size) for p in ("base", "base_again")},
                              ask=ask_by(lambda q, a, b: float(rng.random())), style="plain")
        words += metrics.filter(pl.col("policy") == "base_again", pl.col("delta_n") >= 20)["verdict"].to_list()
    effects = [w for w in words if w in ("better", "worse", "higher", "lower")]
    assert len(words) > 80
    assert len(effects) / len(words) <= 0.1


def test_more_samples_of_few_prompts_are_still_too_few():
    rng = np.random.default_rng(2)
    responses = {p: sampled(rng, rate, prompts=8, samples=10) for p, rate in (("base", 0.0), ("rl_policy", 1.0))}
    metrics, _ = evaluate(responses, ask=ask_by(prefers("step")), style="plain")
    found = metrics.filter(pl.col("policy") == "rl_policy", pl.col("verdict") != "")
    assert set(found["verdict"]) == {"too few to tell"}
    assert metric(metrics, "rl_policy", "refusal", "helpful")["n"] == 8
    few = evaluate(responses, ask=ask_by(prefers("step")), style="plain", enough=8)[0]
    assert metric(few, "rl_policy", "refusal", "helpful")["verdict"] == "worse"
    assert metric(few, "rl_policy", "helpfulness_win_rate", "helpful")["verdict"] == "worse"


def test_a_policy_is_judged_sample_by_sample_against_the_same_sample():
    responses = {"base": pl.concat([frame(["plain"] * 3, sample=0), frame(["plain washer"] * 3, sample=1)]),
                 "sl_policy": pl.concat([frame(["plain washer"] * 3, sample=0), frame(["plain"] * 3, sample=1)])}
    metrics, rows = evaluate(responses, ask=ask_by(prefers("washer")), style="plain")
    judged = rows.filter(policy="sl_policy")
    assert judged.sort("prompt_id", "sample")["verdict"].to_list() == ["win", "loss"] * 3
    found = metric(metrics, "sl_policy", "harmlessness_win_rate", "red-team")
    assert (found["value"], found["n"], found["delta"]) == (0.5, 3, 0.0)


def test_the_rl_policy_is_judged_against_the_policy_it_started_from():
    responses = {"base": frame(["x"] * 30), "sl_policy": frame(["a kind one"] * 30), "rl_policy": frame(["kind"] * 30)}

    def shorter(question: str, a: str, b: str) -> float:
        return 0.9 if len(a) < len(b) else 0.1

    metrics, rows = evaluate(responses, ask=ask_by(shorter), style="plain")
    found = metric(metrics, "rl_policy", "harmlessness_wins_over_sl_policy", "red-team")
    assert (found["value"], found["n"], found["verdict"]) == (1.0, 30, "better")
    assert metric(metrics, "rl_policy", "harmlessness_win_rate", "red-team")["verdict"] == "worse"
    assert rows.filter(policy="rl_policy")["rival"].unique().to_list() == ["sl_policy"]
    assert rows.filter(policy="sl_policy")["rival"].null_count() == 30
    assert metrics.filter(pl.col("metric").str.contains("over_sl_policy"))["policy"].to_list() == ["rl_policy"]


def test_equal_texts_lower_distinctness_and_the_difference_is_paired():
    responses = {"base": frame([f"answer {i}" for i in range(30)]), "rl_policy": frame(["same"] * 30)}
    metrics, _ = evaluate(responses, ask=ask_by(first_wins), style="plain")
    assert metric(metrics, "base", "distinct", "all")["value"] == 1
    found = metric(metrics, "rl_policy", "distinct", "all")
    assert found["value"] == pytest.approx(1 / 30)
    assert found["delta"] == pytest.approx(1 / 30 - 1)
    assert found["verdict"] == "worse"


def test_what_is_neither_better_nor_worse_is_higher_or_lower():
    responses = {"base": frame([f"one two {i}" for i in range(30)]),
                 "rl_policy": frame([f"one two three four {'more ' * (i % 3)}{i}" for i in range(30)])}
    metrics, _ = evaluate(responses, ask=ask_by(first_wins), style="plain")
    assert metric(metrics, "rl_policy", "words", "all")["verdict"] == "higher"


def test_length_controlled_wins_stand_beside_the_plain_ones():
    rng = np.random.default_rng(3)
    n = 120
    base = ["word " * 20 + str(i) for i in range(n)]
    policy = ["word " * int(m) + str(i) for i, m in enumerate(rng.integers(14, 60, n))]

    def longer(question: str, a: str, b: str) -> float:
        difference = len(a.split()) - len(b.split())
        return 0.5 + 0.45 * np.tanh(difference / 10)

    metrics, _ = evaluate({"base": frame(base), "rl_policy": frame(policy)}, ask=ask_by(longer), style="plain")
    plain = metric(metrics, "rl_policy", "harmlessness_win_rate", "red-team")
    controlled = metric(metrics, "rl_policy", "harmlessness_length_controlled", "red-team")
    assert (plain["verdict"], controlled["verdict"]) == ("better", "no difference seen")
    assert controlled["value"] < plain["value"]


def test_only_headline_measures_of_what_a_version_trains_are_plotted():
    from cai_assets.defs.evaluation import metric_metadata

    rng = np.random.default_rng(1)
    policies = ("base", "base_again", "sft_baseline", "sl_policy", "rl_policy")
    responses = {p: sampled(rng, 0.3, prompts=6, samples=1) for p in policies}
    metrics, _ = evaluate(responses, ask=ask_by(even), style="plain")
    shown = metric_metadata(metrics, Telling(0.95, 20))
    plotted = {name for name, value in shown.items() if isinstance(value, float)}
    assert {"rl_policy_refusal_helpful", "sl_policy_helpfulness_win_rate_helpful"} <= plotted
    assert all(name.startswith(("rl_policy_", "sl_policy_")) for name in plotted)
    assert len(plotted) < metrics.height / 3
    assert "base" in shown["metrics"].value  # the table has all of them
