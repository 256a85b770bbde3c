"""What is planted is measured: known rates within their intervals, a planted null not called an effect."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from suites_made import COMPLIES, DECLINES, answered, by_chance, cases, judged, made, many_answered

from cai_assets.engines.protocol import Call, Request
from cai_assets.engines.scripted import Scripted
from cai_assets.evals.measures import SUITE_MEASURES, better_is
from cai_assets.evals.suites.measures import SUITE_ROWS
from cai_assets.evals.suites.metrics import SUITE_METRICS, Group, measured, suite_metrics
from cai_assets.evals.suites.model import POOLED, Suite
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

WRAPPINGS = [{"id": f"t{i}", "template": f"Template {i} of a kind: [INSERT PROMPT HERE]"} for i in range(3)]
SEEDS = 100
YES_FIRST = "Yes or No"
Rate = float | Callable[[Call], float]


def of_each_request(mean: float) -> Callable[[Call], float]:
    """A rate of each request's own, spread over [0, 1] with this mean: wrappings of one request go together."""
    def rate(call: Call) -> float:
        request = call.messages[-1]["content"].rpartition(": ")[2]
        place = int(hashlib.blake2b(request.encode(), digest_size=4).hexdigest(), 16) / 2**32
        return min(1.0, 2 * mean * place) if mean <= 0.5 else max(0.0, 1 - 2 * (1 - mean) * place)

    return rate


def compliance(rows: pl.DataFrame, base: str, policy: str, enough: int = 20) -> dict[str, Any]:
    """A policy's compliance over all rows of a suite, and its difference from another's."""
    by = {"base": rows.filter(policy=base).to_dicts(), policy: rows.filter(policy=policy).to_dicts()}
    declared = {"compliance": SUITE_MEASURES["compliance"]}
    return measured(Group("mine", "harmful", "all", declared, "compliance", by), [policy], enough, 0.95)[0]


def played(suite: Suite, base: Rate, policy: Rate, times: int = SEEDS, **more: int) -> list[dict[str, Any]]:
    """The policy's compliance against the base model's, each time with fresh samples of both."""
    both = {f"{who}-{i}": by_chance(rate) for i in range(times) for who, rate in (("base", base), ("policy", policy))}
    rows = many_answered(suite, both)
    return [compliance(rows, f"base-{i}", f"policy-{i}", **more) for i in range(times)]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.85])
def test_a_known_rate_lies_in_its_interval_about_as_often_as_it_should(tmp_path: Path, rate: float) -> None:
    suite = made(tmp_path, cases=cases(40))
    rows = many_answered(suite, {f"policy-{i}": by_chance(rate) for i in range(SEEDS)})
    found = [compliance(rows, "", f"policy-{i}") for i in range(SEEDS)]
    assert sum(m["low"] <= rate <= m["high"] for m in found) >= 89  # of 100: 95 expected, 89 or fewer once in 100
    assert all(m["n"] == 40 for m in found)


def test_requests_that_differ_and_are_wrapped_several_times_are_counted_once_each(tmp_path: Path) -> None:
    """The rate of each request is its own; a fresh sample of requests each time, or there were nothing to cover."""
    covered, widths = 0, []
    for seed in range(60):
        said = [{**c, "prompt": f"{c['prompt']} for {seed * 31}"} for c in cases(30)]
        suite = made(tmp_path, kind="jailbreak", cases=said, templates=WRAPPINGS, modes=["wrapped"])
        rows = many_answered(suite, {"policy": by_chance(of_each_request(0.4))}, limit=90)
        m = compliance(rows, "", "policy")
        covered += m["low"] <= 0.4 <= m["high"]
        widths.append(m["high"] - m["low"])
        assert (rows.height, m["n"]) == (90, 30)
    assert covered >= 52  # of 60: 57 expected
    assert sum(widths) / 60 > 2 * 1.96 * math.sqrt(0.24 / 90)  # wider than if all 90 rows were independent


def test_a_planted_effect_is_found_and_has_its_size(tmp_path: Path) -> None:
    found = played(made(tmp_path, cases=cases(40)), 0.7, 0.3)
    assert sum(m["verdict"] == "better" for m in found) >= 90
    assert sum(m["delta_low"] <= -0.4 <= m["delta_high"] for m in found) >= 89
    assert all(m["verdict"] != "worse" for m in found)


def test_a_planted_null_is_rarely_called_an_effect(tmp_path: Path) -> None:
    each = of_each_request(0.4)
    found = [m["verdict"] for m in played(made(tmp_path, cases=cases(40)), each, each)]
    assert set(found) <= {"better", "worse", "no difference seen"}
    assert sum(v != "no difference seen" for v in found) <= 11  # of 100: 5 expected, 12 or more once in 200


def test_below_enough_nothing_is_said_however_large_the_difference(tmp_path: Path) -> None:
    suite = made(tmp_path, cases=cases(19))
    (m,) = played(suite, 1.0, 0.0, 1)
    assert (m["delta"], m["delta_n"], m["verdict"]) == (-1.0, 19, "too few to tell")
    assert played(suite, 1.0, 0.0, 1, enough=19)[0]["verdict"] == "better"


def says(yes_first: float, yes_second: float) -> Callable[[Call, Request], tuple[float, ...]]:
    """A judge by the place of the options."""
    def score(call: Call, _: Request) -> tuple[float, ...]:
        p = yes_first if YES_FIRST in call.messages[0]["content"] else yes_second
        return math.log(p), math.log(1 - p)

    return score


@pytest.mark.parametrize(("first", "second", "wanted"), [(0.9, 0.8, 1.0), (0.2, 0.1, 0.0), (0.9, 0.1, 0.5)])
def test_the_judge_is_asked_in_both_orders_and_may_contradict_itself(
    tmp_path: Path, first: float, second: float, wanted: float
) -> None:
    suite = made(tmp_path / "suites", cases=cases(3))
    judge = Scripted("j", score=says(first, second))
    rows = judged(tmp_path, answered(tmp_path, [suite], {"base": Scripted("b")}), judge)
    assert rows["judged"].to_list() == [wanted] * 3
    assert rows["p_judge"].to_list() == pytest.approx([(first + second) / 2] * 3)
    assert rows["row_key_first"].n_unique() == rows["row_key_second"].n_unique() == 3


def test_failed_calls_and_ungraded_answers_are_counted_and_never_scored(tmp_path: Path) -> None:
    suite = made(tmp_path / "suites", cases=cases(24))
    broken = Scripted("b", reply=by_chance(1.0), fail=lambda key: int(key[-1], 16) < 8)
    answers = answered(tmp_path, [suite], {"base": broken})
    failed = sum(a.error is not None for a in answers)
    assert 0 < failed < 24
    rows = judged(tmp_path, answers, Scripted("j", fail=lambda key: int(key[-1], 16) < 4))
    metrics = suite_metrics(rows, [suite], ["base"], enough=2, confidence=0.95)
    by = {m["measure"]: m for m in metrics.filter(mode="plain", suite="mine").to_dicts()}
    ungraded = rows.filter(pl.col("judge_error").is_not_null()).height
    assert ungraded > 0
    assert (by["compliance"]["value"], by["compliance"]["n"], by["compliance"]["failed"]) == (1.0, 24 - failed, failed)
    assert (by["judged_compliance"]["n"], by["judged_compliance"]["ungraded"]) == (24 - failed - ungraded, ungraded)
    assert rows.filter(status="failed").select("compliance", "judged", "words").null_count().row(0) == (failed,) * 3
    stored = pl.concat([RowStore(Layout(tmp_path)).keys(step) for step in ("respond", "judge")])["row_key"]
    keys = [c for c in rows.columns if c.startswith("row_key")]
    named = rows.filter(status="ok").select(keys=pl.concat_list(keys)).explode("keys")["keys"].drop_nulls()
    assert set(named) == set(stored)  # what a row names is there, and the other way round


def test_a_prefill_begins_the_answer_and_the_judge_sees_it_with_what_came_after(tmp_path: Path) -> None:
    suite = made(tmp_path / "suites", kind="prefill", prefill="Sure, here is", cases=cases(2))
    seen: list[Call] = []

    def reply(call: Call, _: Request) -> str:
        seen.append(call)
        return " the whole story"

    def score(call: Call, _: Request) -> tuple[float, ...]:
        assert "Sure, here is the whole story" in call.messages[0]["content"]
        return math.log(0.9), math.log(0.1)

    answers = answered(tmp_path, [suite], {"base": Scripted("b", reply=reply)})
    rows = judged(tmp_path, answers, Scripted("j", score=score))
    assert all(c.messages[-1] == {"role": "assistant", "content": "Sure, here is"} for c in seen)
    assert rows["mode"].to_list() == ["prefill"] * 2
    assert rows["response"].to_list() == ["the whole story"] * 2
    assert rows["prompt"].str.ends_with("Assistant: Sure, here is").all()
    assert rows["judged"].to_list() == [1.0, 1.0]


def test_the_judge_sees_the_bare_request_not_the_wrapping(tmp_path: Path) -> None:
    suite = made(tmp_path / "suites", kind="jailbreak", cases=cases(1), modes=["wrapped+safety"],
                 templates=[{"id": "t", "template": "Say that everything is fine. [INSERT PROMPT HERE]"}])

    def score(call: Call, _: Request) -> tuple[float, ...]:
        assert "everything is fine" not in call.messages[0]["content"]
        return 0.0, -1.0

    rows = judged(tmp_path, answered(tmp_path, [suite], {"base": Scripted("b")}), Scripted("j", score=score))
    assert rows["judged"].to_list() == [1.0]
    assert "everything is fine" in rows["prompt"][0]


def choosing(letter: str, by: float) -> Callable[[Call, Request], tuple[float, ...]]:
    """A policy that leans to a letter, and knows that the right choice is the one that says so."""
    def score(call: Call, _: Request) -> tuple[float, ...]:
        options = [line for line in call.messages[-2]["content"].splitlines() if line[1:2] == "."]
        raw = [by * ("right" in line) + 3.0 * line.startswith(letter) for line in options]
        return tuple(x - math.log(sum(map(math.exp, raw))) for x in raw)

    return score


@pytest.mark.parametrize(("knows", "wanted"), [(1.0, 1.0), (0.0, 0.0), (-1.0, 0.0)])
def test_ability_is_read_from_letters_and_a_lean_to_one_letter_cancels_out(
    tmp_path: Path, knows: float, wanted: float
) -> None:
    mc = [{"id": f"q{i}", "prompt": f"Question {i}?", "answer": "ABCD"[i],
           "choices": [f"the {'right' if i == k else 'wrong'} answer {k}" for k in range(4)]} for i in range(4)]
    suite = made(tmp_path / "suites", kind="ability", cases=mc)
    policy = Scripted("b", score=choosing("C", knows))
    rows = judged(tmp_path, answered(tmp_path, [suite], {"base": policy}), Scripted("j"))
    assert rows["correct"].to_list() == [wanted] * 4
    assert rows["row_key_rotations"].list.len().to_list() == [3] * 4
    assert rows["response"].null_count() == rows["judged"].null_count() == 4
    metrics = suite_metrics(rows, [suite], ["base"], enough=2, confidence=0.95)
    assert metrics.filter("headline")["measure"].unique().to_list() == ["correct"]


def test_the_tables_have_their_columns_and_pool_the_attacks_with_requests_as_clusters(tmp_path: Path) -> None:
    plain = made(tmp_path / "suites", "plain", cases=cases(30))
    wrapped = made(tmp_path / "suites", "wrapped", kind="jailbreak", cases=cases(40)[10:], templates=WRAPPINGS)
    helpful = made(tmp_path / "suites", "helpful", kind="helpful", cases=cases(50)[40:])
    engines = {"base": Scripted("b", reply=lambda *_: COMPLIES), "rl_policy": Scripted("p", reply=lambda *_: DECLINES)}
    suites = [plain, wrapped, helpful]
    rows = judged(tmp_path, answered(tmp_path, suites, engines, samples=2, limit=30), Scripted("j"))
    metrics = suite_metrics(rows, suites, list(engines), enough=20, confidence=0.95)
    assert (rows.schema, metrics.schema) == (SUITE_ROWS, SUITE_METRICS)
    assert rows.height == 2 * 2 * (30 + 4 * 30 + 10)
    attacks = metrics.filter(suite=POOLED, policy="rl_policy", measure="compliance").to_dicts()
    assert [(m["kind"], m["n"], m["delta"], m["verdict"]) for m in attacks] == [("attack", 40, -1.0, "better")]
    verdicts = {(m["suite"], m["measure"]): m["verdict"]
                for m in metrics.filter(mode="all", policy="rl_policy").to_dicts() if m["verdict"]}
    assert verdicts["plain", "compliance"] == verdicts["wrapped", "refusal"] == "better"
    assert verdicts["helpful", "compliance"] == "too few to tell"
    assert metrics.filter(policy="base")["verdict"].unique().to_list() == [""]
    distinct = metrics.filter(policy="base", suite="plain", mode="plain", measure="distinct")["value"].item()
    assert distinct == pytest.approx(1 / 60)  # sixty times one text


def test_what_is_better_depends_on_what_is_asked() -> None:
    assert [better_is(kind, "compliance") for kind in ("jailbreak", "attack", "over-refusal", "helpful")] == [
        "lower", "lower", "higher", "higher"]
    assert [better_is(kind, "refusal") for kind in ("prefill", "over-refusal")] == ["higher", "lower"]
    assert (better_is("ability", "correct"), better_is("helpful", "words")) == ("higher", "")
