"""Evaluation: planted judges, failures counted and never scored, tables of the stated form."""

import numpy as np
import polars as pl
import pytest
from judges import ask_by, first_wins, prefers

from cai_assets.evals.evaluate import METRICS_SCHEMA, ROWS_SCHEMA, evaluate


def frame(responses, kind="red-team", category="c", sample=0):
    """Responses by prompt number."""
    rows = [{"prompt_id": f"{kind}-{i}", "kind": kind, "category": category,
             "messages": [{"role": "user", "content": f"tell me about topic{i}"}], "sample": sample, "response": r,
             "row_key": f"row:{kind}-{i}-{sample}"}
            for i, r in enumerate(responses)]
    return pl.DataFrame(rows, schema_overrides={"response": pl.String})


def metric(metrics, policy, name, prompts):
    found = metrics.filter(policy=policy, metric=name, prompts=prompts).to_dicts()
    assert len(found) == 1, (policy, name, prompts, metrics)
    return found[0]


def test_the_measured_win_rate_contains_the_planted_one():
    n, truth = 200, 0.7
    better = np.random.default_rng(11).random(n) < truth
    responses = {"base": frame(["neutral"] * n),
                 "rl_policy": frame(["kind" if x else "rude" for x in better])}

    def rule(question: str, a: str, b: str) -> float:
        worth = {"kind": 1, "neutral": 0, "rude": -1}
        return 0.55 + 0.4 * (1 if worth[a] > worth[b] else -1)  # with a leaning to the first place

    metrics, rows = evaluate(responses, ask=ask_by(rule), style="plain")
    found = metric(metrics, "rl_policy", "harmlessness_win_rate", "red-team")
    assert found["low"] <= truth <= found["high"]
    assert found["value"] == pytest.approx(better.mean())
    assert (found["n"], found["ungraded"]) == (n, 0)
    assert metric(metrics, "rl_policy", "harmlessness_agreement", "red-team")["value"] == 1
    verdicts = rows.filter(policy="rl_policy")["verdict"].to_list()
    assert verdicts == ["win" if x else "loss" for x in better]


def test_a_judge_that_only_sees_positions_finds_no_winner():
    responses = {"base": frame(["x"] * 10), "sl_policy": frame(["y"] * 10)}
    metrics, rows = evaluate(responses, ask=ask_by(first_wins), style="chat")
    found = metric(metrics, "sl_policy", "harmlessness_win_rate", "red-team")
    assert found["value"] == 0.5
    assert found["low"] < 0.5 < found["high"]
    assert metric(metrics, "sl_policy", "harmlessness_agreement", "red-team")["value"] == 0
    assert rows.filter(policy="sl_policy")["verdict"].unique().to_list() == ["tie"]
    assert rows.filter(policy="sl_policy")["p_win"].to_list() == pytest.approx([0.5] * 10)


def test_each_kind_of_prompt_is_judged_by_its_own_question():
    def both(word):
        return pl.concat([frame([word] * 3), frame([word] * 4, "helpful")])

    asked = set()

    def rule(question: str, a: str, b: str) -> float:
        asked.add(question.partition("?")[0])
        harm = "harm" in question
        return 0.9 if (a == "safe") == harm else 0.1

    metrics, rows = evaluate({"base": both("useful"), "rl_policy": both("safe")}, ask=ask_by(rule), style="plain")
    assert asked == {"Which answer does less harm", "Which answer helps more"}
    harmless = metric(metrics, "rl_policy", "harmlessness_win_rate", "red-team")
    helpful = metric(metrics, "rl_policy", "helpfulness_win_rate", "helpful")
    assert (harmless["value"], harmless["n"]) == (1, 3)
    assert (helpful["value"], helpful["n"]) == (0, 4)
    assert metrics.filter(pl.col("policy") == "base", pl.col("metric").str.ends_with("win_rate")).is_empty()
    assert rows.filter(policy="base")["verdict"].null_count() == 7


def test_failed_responses_and_failed_judgments_are_counted_and_never_scored():
    responses = {"base": frame(["good", "good", None, "good", "good"]),
                 "sl_policy": frame(["good washer", None, "good washer", "broken", "I can't help with that."])}
    ask = ask_by(prefers("washer"), fails=lambda a, b: "broken" in a)
    metrics, rows = evaluate(responses, ask=ask, style="plain")
    win = metric(metrics, "sl_policy", "harmlessness_win_rate", "red-team")
    assert (win["n"], win["ungraded"]) == (2, 3)
    assert win["value"] == 0.75
    failed = metric(metrics, "sl_policy", "failed", "all")
    assert (failed["value"], failed["n"]) == (0.2, 5)
    refusal = metric(metrics, "sl_policy", "refusal", "red-team")
    assert (refusal["value"], refusal["n"], refusal["ungraded"]) == (0.25, 4, 1)
    got = rows.filter(policy="sl_policy").to_dicts()
    assert [r["verdict"] for r in got] == ["win", "ungraded", "ungraded", "ungraded", "tie"]
    assert [r["judge_error"] for r in got] == [None, "the response failed", "no response to compare with",
                                              "no memory", None]
    assert [got[1][name] for name in ("refusal", "relevance", "echo", "words", "p_win")] == [None] * 5


def test_lexical_measures_and_refusals_by_kind():
    responses = {"base": pl.concat([frame(["I can't help with that.", "topic1 is here"]),
                                    frame(["I can't help with that.", "tell me about topic1 and then more"],
                                          "helpful", "sounds-scary")])}
    metrics, rows = evaluate(responses, ask=ask_by(first_wins), style="plain")
    assert metric(metrics, "base", "refusal", "red-team")["value"] == 0.5
    assert metric(metrics, "base", "refusal", "helpful")["value"] == 0.5
    assert metric(metrics, "base", "refusal_sounds_scary", "helpful")["n"] == 2
    assert metric(metrics, "base", "distinct", "all")["value"] == 0.75
    assert metric(metrics, "base", "words", "all")["value"] == pytest.approx((5 + 3 + 5 + 7) / 4)
    assert metric(metrics, "base", "echo", "all")["value"] == 0
    own, zero = (metric(metrics, "base", name, "all")["value"] for name in ("relevance", "relevance_zero"))
    assert own > zero
    assert rows.height == 4


def test_every_value_has_a_count_and_every_rate_an_interval():
    responses = {"base": frame(["a b", "c d", "e f"]), "rl_policy": frame(["g", "h", "i"])}
    metrics, rows = evaluate(responses, ask=ask_by(first_wins), style="plain", confidence=0.9)
    assert dict(metrics.schema) == METRICS_SCHEMA
    assert dict(rows.schema) == ROWS_SCHEMA
    known = metrics.filter(pl.col("value").is_not_null())
    assert known.filter((pl.col("n") < 1) | pl.col("low").is_null() | pl.col("high").is_null()).is_empty()
    assert known.filter((pl.col("low") > pl.col("value") + 1e-9) | (pl.col("high") < pl.col("value") - 1e-9)).is_empty()
    unknown = metrics.filter(pl.col("value").is_null())
    assert {(r["metric"], r["n"]) for r in unknown.to_dicts()} == {
        ("harmlessness_length_controlled", 3), *((name, 0) for name in unknown["metric"] if "length" not in name),
        ("helpfulness_length_controlled", 0)}
    assert "sounds" not in " ".join(metrics["metric"])


def test_nothing_to_measure_gives_unknown_values():
    empty = frame(["x"]).clear()
    metrics, rows = evaluate({"base": empty, "rl_policy": empty}, ask=ask_by(first_wins), style="plain")
    assert rows.is_empty()
    assert metrics["value"].null_count() == metrics.height > 0


def test_an_unknown_baseline_or_a_prompt_twice_is_refused():
    with pytest.raises(ValueError, match="no responses of the baseline 'base'; there are: rl_policy"):
        evaluate({"rl_policy": frame(["x"])}, ask=ask_by(first_wins), style="plain")
    with pytest.raises(ValueError, match="sample 0 of prompt 'red-team-0' more than once"):
        evaluate({"base": pl.concat([frame(["x"]), frame(["y"])])}, ask=ask_by(first_wins), style="plain")
