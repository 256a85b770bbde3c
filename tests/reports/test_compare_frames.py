"""What was planted in two tables is found, within its interval; what was not is not; nothing is dropped unseen."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from cai_assets.constitution.check import Check
from cai_assets.evals.measures import MeasureError, evaluation_measure
from cai_assets.evals.statistics import FEW, NOT_SEEN, Estimate, Telling, told
from cai_assets.pipeline.spending import dollars, served_tokens
from cai_assets.reports.compare.answers import compare_answers
from cai_assets.reports.compare.labels import compare_labels
from cai_assets.reports.compare.metrics import OTHER_RULE, SAME, by_another_rule, deltas, label_of
from cai_assets.reports.compare.revisions import ANOTHER, EDITED, compare_revisions, share_changed
from cai_assets.reports.compare.revisions import SAME as SAME_PRINCIPLE
from cai_assets.reports.compare.rewards import agree
from cai_assets.reports.compare.sides import settings_changed
from cai_assets.reports.compare.words import headlines, overall
from cai_assets.store.records import Record

N = 200


def evaluation(outcomes: list[float | None], *, skip: int = 0, tag: str = "", verdicts: str = "win") -> pl.DataFrame:
    """Rows of one policy on N red-team prompts, the first ``skip`` of them missing."""
    rows = [{"policy": "rl_policy", "prompt_id": f"p{i}", "prompt": f"text {i}", "kind": "red-team", "response": "r",
             "row_key": f"{tag}{i}", "refusal": False, "relevance": 0.5, "echo": 0.0, "words": 10, "outcome": x,
             "principle_id": "kind", "adherence_verdict": verdicts} for i, x in enumerate(outcomes)]
    return pl.DataFrame(rows[skip:])


def row(found: pl.DataFrame, metric: str) -> dict[str, Any]:
    return found.filter(metric=metric).to_dicts()[0]


def test_a_rule_that_is_kept_more_and_wins_that_are_lost_are_both_told() -> None:
    before = evaluation([1.0] * N).with_columns(response=pl.lit("one two three"))
    found = deltas(before, evaluation([0.0] * N, tag="new"), checks=[("short", Check(max_words=2))])
    assert overall(headlines(found), "RL policy", 20) == (
        "The RL policy is better in some respects (keeps every rule) and worse in others (harmless wins).")


def test_a_planted_difference_is_within_its_interval_and_told() -> None:
    rng = random.Random(1)
    before = [rng.choice([0.0, 0.5, 1.0]) for _ in range(N)]
    after = [min(1.0, x + 0.5) if rng.random() < 0.4 else x for x in before]
    planted = sum(after) / N - sum(before) / N
    found = row(deltas(evaluation([*before]), evaluation([*after], tag="new")), "harmlessness_win_rate")
    assert found["delta"] == pytest.approx(planted)
    assert 0 < found["low"] < planted < found["high"]
    assert (found["n"], found["verdict"], found["same_response"]) == (N, "better", 0)
    assert row(deltas(evaluation([*after]), evaluation([*before], tag="new")), "harmlessness_win_rate")[
        "verdict"] == "worse"


def test_noise_alone_is_no_difference_and_the_same_responses_are_named() -> None:
    rng = random.Random(2)
    noise = [[rng.choice([0.0, 0.5, 1.0]) for _ in range(N)] for _ in range(2)]
    found = deltas(evaluation([*noise[0]]), evaluation([*noise[1]], tag="new"))
    assert row(found, "harmlessness_win_rate")["verdict"] == NOT_SEEN
    assert row(found, "refusal")["verdict"] == NOT_SEEN
    assert row(found, "refusal")["low"] < 0 < row(found, "refusal")["high"]
    same = deltas(evaluation([*noise[0]]), evaluation([*noise[0]]))
    assert set(same["verdict"]) == {SAME}
    assert same["same_response"].to_list() == same["n"].to_list()


def test_prompts_without_a_partner_are_counted_and_few_are_too_few() -> None:
    before, after = evaluation([1.0] * 25, skip=3), evaluation([0.0] * 23 + [None] * 2, skip=6, tag="new")
    found = row(deltas(before, after), "harmlessness_win_rate")
    assert (found["n"], found["only_before"], found["only_after"], found["ungraded"]) == (17, 3, 0, 2)
    assert found["verdict"] == FEW
    reworded = after.with_columns(pl.lit("another text").alias("prompt"))
    alone = row(deltas(before, reworded), "harmlessness_win_rate")
    assert (alone["n"], alone["only_before"], alone["only_after"], alone["delta"]) == (0, 22, 19, None)


def test_the_check_of_each_principle_is_compared_and_declared_as_that_of_all() -> None:
    before, after = evaluation([1.0] * 30), evaluation([1.0] * 30, tag="new")
    found = deltas(before, after.with_columns(response=pl.lit("two words")), checks=[("short", Check(max_words=1))])
    checks = found.filter(metric="check").to_dicts()
    assert [(r["prompts"], label_of(r), r["delta"]) for r in checks] == [
        ("all", "keeps every rule", -1.0), ("principle:short", "keeps short", -1.0)]
    assert {evaluation_measure(r["metric"], r["prompts"]).name for r in checks} == {"check"}
    with pytest.raises(MeasureError, match="does not measure 'words' of 'principle:short'"):
        evaluation_measure("words", "principle:short")


def test_adherence_counts_only_where_the_same_request_judged() -> None:
    before, after = evaluation([1.0] * 30), evaluation([1.0] * 30, tag="new", verdicts="loss")
    assert "adherence" not in deltas(before, after)["metric"].to_list()
    found = row(deltas(before, after, ["kind"]), "adherence")
    assert (found["delta"], found["n"], found["verdict"]) == (-1.0, 30, "worse")
    assert found["low"] == -1.0 < found["high"] < 0


def test_refusals_that_another_rule_found_are_not_a_difference() -> None:
    before = evaluation([1.0] * N)
    after = evaluation([1.0] * N, tag="new").with_columns(refusal=True)
    assert row(deltas(before, after), "refusal")["delta"] == 1
    found = by_another_rule(deltas(before, after))
    refusal, wins = row(found, "refusal"), row(found, "harmlessness_win_rate")
    assert (refusal["delta"], refusal["low"], refusal["verdict"]) == (None, None, OTHER_RULE)
    assert (wins["delta"], wins["verdict"]) == (0, NOT_SEEN)


def test_words_of_a_difference() -> None:
    sure = Estimate(0.2, 30, 0.1, 0.3)
    assert [told(sure, enough=20, better=better) for better in ("higher", "lower", "")] == ["better", "worse", "higher"]
    assert told(Estimate(-0.2, 30, -0.3, -0.1), enough=20, better="") == "lower"
    assert told(Estimate(0.2, 19, 0.1, 0.3), enough=20, better="") == FEW
    assert told(Estimate(None, 0), enough=20, better="") == FEW
    assert told(Estimate(0.2, 30, 0.0, 0.3), enough=20, better="") == NOT_SEEN


def test_what_it_takes_to_claim_a_difference_is_set_by_the_caller() -> None:
    before, after = evaluation([0.0] * 10), evaluation([1.0] * 7 + [0.0] * 3, tag="new")
    wide, narrow = (row(deltas(before, after, telling=Telling(c, 10)), "harmlessness_win_rate") for c in (0.99, 0.5))
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert narrow["verdict"] == "better"
    assert row(deltas(before, after, telling=Telling(0.5, 11)), "harmlessness_win_rate")["verdict"] == FEW


def test_a_prompt_that_was_answered_several_times_is_one_observation() -> None:
    before, after = (pl.concat([evaluation([x] * N, tag=f"{x}"), evaluation([y] * N, tag=f"{y} again")])
                     for x, y in ((0.0, 1.0), (1.0, 1.0)))
    found = row(deltas(before, after), "harmlessness_win_rate")
    assert (found["before"], found["after"], found["n"], found["only_before"]) == (0.5, 1.0, N, 0)
    assert row(deltas(before, before), "harmlessness_win_rate")["verdict"] == SAME


def revisions(texts: list[str | None], principles: list[str], digest: str = "d") -> pl.DataFrame:
    return pl.DataFrame({
        "prompt_id": [f"p{i}" for i in range(len(texts))], "prompt": "q", "round": 1, "principle_id": principles,
        "principle_digest": [f"{digest}-{p}" if p == "edited" else p for p in principles], "revision": texts,
        "row_key": [f"{digest}{t}" for t in texts]}, schema_overrides={"revision": pl.String})


def test_changed_revisions_are_found_with_their_cause_and_worst_first() -> None:
    before = revisions(["a b c d", "a b c d", "a b", "same", None, "gone"],
                       ["edited", "kind", "kind", "kind"] + ["x"] * 2)
    after = revisions(["a b c e", "w x y z", "a b d", "same", "new", None, "more"],
                      ["edited", "harm", "kind", "kind"] + ["x"] * 3, digest="new")
    found = compare_revisions(before, after)
    assert found.causes() == {EDITED: 1, ANOTHER: 1, SAME_PRINCIPLE: 1}
    assert {t: found.count(t) for t in ("same", "changed", "lost", "new", "only before", "only after")} == {
        "same": 1, "changed": 3, "lost": 1, "new": 1, "only before": 0, "only after": 1}
    assert (found.paired, found.measured, found.rows.height) == (6, 3, 7)
    assert found.worst["share"].to_list() == [1.0, 0.25, pytest.approx(0.2)]
    assert found.by_principle["changed"].sum() == 3
    assert found.by_principle["rows"].sum() == found.paired
    assert not found.sample.height


def test_the_sample_by_hash_is_of_the_others_and_stable() -> None:
    before, after = (revisions([f"{w} {i}" for i in range(60)], ["kind"] * 60) for w in ("old", "new"))
    found, again = compare_revisions(before, after), compare_revisions(before.reverse(), after)
    assert found.sample.equals(again.sample)
    assert not set(found.sample["prompt_id"]) & set(found.worst["prompt_id"])
    assert share_changed("", "") == 0.0
    assert share_changed("a b", "b a") == 0.0


def labeled(ps: list[float | None], *, swap: bool = False, tag: str = "", principle: str = "kind") -> pl.DataFrame:
    rows = []
    for i, p in enumerate(ps):
        a, b = f"{tag}answer {i}", f"{tag}zz {i}"
        mine = p if p is None or not swap else 1 - p
        label = "ungraded" if mine is None else "tie" if mine == 0.5 else "A" if mine > 0.5 else "B"
        rows.append({"pair_id": f"p{i}-0", "prompt_id": f"p{i}", "messages": [{"role": "user", "content": f"q{i}"}],
                     "response_a": b if swap else a, "response_b": a if swap else b, "principle_id": principle,
                     "p_a": mine, "label": label})
    return pl.DataFrame(rows, schema_overrides={"p_a": pl.Float64})


def test_planted_flips_are_found_whatever_the_responses_are_called() -> None:
    before = labeled([0.9] * 30 + [0.5, None])
    after = labeled([0.1] * 6 + [0.9] * 24 + [0.5, 0.8, 0.9], swap=True, principle="other")
    found = compare_labels(before, after)
    assert (found.shared, found.only_before, found.only_after) == (31, 0, 1)
    assert (found.flips.value, found.flips.n) == (0.2, 30)
    assert found.shift.value == pytest.approx(6 * 0.8 / 31)
    assert found.shift.low < 6 * 0.8 / 31 < found.shift.high  # type: ignore[operator]
    assert found.by_principle.to_dicts()[0] | {"low": 0, "high": 0, "mean shift": 0} == {
        "principle": "other", "pairs": 31, "drawn anew": 31, "flipped": 6, "share": 0.2, "low": 0, "high": 0,
        "mean shift": 0}
    assert found.moves["pairs"].sum() == 32
    assert found.examples.height == 6
    assert (found.before.pairs, found.before.ungraded, found.after.ungraded) == (32, 1, 0)


def test_without_a_common_text_nothing_flips_and_the_rates_remain() -> None:
    found = compare_labels(labeled([0.9] * 5), labeled([0.1, 0.5], tag="other "))
    assert (found.shared, found.flips.value, found.only_before, found.only_after) == (0, None, 5, 2)
    assert (found.before.consistent.value, found.after.ties.value) == (1.0, 0.5)


def test_equal_pairs_meet_one_to_one() -> None:
    twice = pl.concat([labeled([0.9]), labeled([0.1]).with_columns(pl.lit("p0-1").alias("pair_id"))])
    found = compare_labels(twice, labeled([0.9]))
    assert (found.shared, found.only_before, found.flips.value) == (1, 1, 0.0)


def test_reward_models_agree_where_both_prefer_the_same_text() -> None:
    def held_out(margins: list[float], *, swap: bool = False) -> pl.DataFrame:
        sides = [f"a{i}" for i in range(len(margins))], [f"b{i}" for i in range(len(margins))]
        return pl.DataFrame({"messages": [[{"role": "user", "content": "q"}]] * len(margins),
                             "chosen": sides[swap], "rejected": sides[not swap], "margin": margins})

    before = held_out([1.0, 1.0, -1.0, 0.0, 1.0])
    assert agree(before, held_out([-2.0, -0.1, 2.0, 1.0], swap=True)).value == pytest.approx(3.5 / 4)
    assert agree(before, held_out([-1.0, 0.0, -1.0, 1.0])).value == pytest.approx((0 + 0.5 + 1 + 0.5) / 4)
    assert agree(before, before.with_columns(pl.lit("x").alias("chosen"))).n == 0


def test_answers_that_got_worse_come_first_then_those_that_differ_most() -> None:
    def answers(*given: tuple[str, str, float | None], policy: str = "sl_policy") -> pl.DataFrame:
        return pl.DataFrame([{"policy": policy, "prompt_id": i, "prompt": f"text {i}", "category": "c",
                              "response": text, "outcome": won, "verdict": None if won is None else str(won)}
                             for i, text, won in given])

    before = answers(("a", "one two", 0.5), ("b", "one two", 0.0), ("c", "one two", 1.0), ("d", "one two", None),
                     ("e", "same", 1.0), ("only before", "x", 1.0))
    after = answers(("a", "one three", 0.5), ("b", "four five", 0.0), ("c", "one six", 0.5), ("d", "seven two", 1.0),
                    ("e", "same", 0.0))
    found = compare_answers(before, after, ("rl_policy", "sl_policy"))
    assert found is not None
    assert (found.policy, found.both, found.differ) == ("sl_policy", 5, 4)
    assert [p.prompt_id for p in found.pairs] == ["c", "b", "a", "d"]
    assert (found.pairs[0].before_verdict, found.pairs[0].after_verdict) == ("1.0", "0.5")
    other_words = after.with_columns(prompt=pl.lit("another text"))
    assert compare_answers(before, other_words, ("sl_policy",)) == ("sl_policy", 0, 0, [])
    assert compare_answers(before, after, ("rl_policy",)) is None


def test_served_tokens_are_counted_and_priced_as_the_record_was_made() -> None:
    served = {"source": "m", "base_urls": ["http://127.0.0.1:8000/v1"], "price_input": 1.0, "price_output": 4.0}
    models = {"generator": {"source": "here", "base_urls": []}, "critic": served, "labeller": None}
    used: dict[str, Any] = {"partition": "v", "digest": "d", "path": "p", "prompt_tokens": 2_000_000,
                            "completion_tokens": 500_000, "gpu_seconds": 7200.0, "settings": {"models": models}}
    critiques, labels = (Record(asset=asset, **used) for asset in ("critiques", "preference_pairs"))
    trained = Record(asset="sl_policy", **used)
    assert [served_tokens(r) for r in (critiques, labels, trained)] == [2_500_000, 0, 0]
    assert [dollars(r, 3.0) for r in (critiques, labels, trained)] == [4.0, 6.0, 6.0]
    assert dollars(labels, None) is None
    free = {**used, "settings": {"models": {"generator": {**served, "price_input": None, "price_output": None}}}}
    assert dollars(Record(asset="critiques", **free), 3.0) is None


def test_a_setting_that_a_record_is_too_old_to_know_was_not_changed() -> None:
    before, after = ({"sl": {"epochs": 1}}, {"sl": {"epochs": 2, "source": "revisions"}})
    sides: list[Any] = [SimpleNamespace(records={"sl_policy": Record(
        asset="sl_policy", partition="v", digest="d", path="p", settings=settings)}) for settings in (before, after)]
    assert settings_changed(*sides) == ["sl.epochs: 1 -> 2"]
