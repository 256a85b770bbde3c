"""The judge gate: a labeler of known accuracy comes out at it; one that sees only places, or grades nothing, fails."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from labellers import Score, first_place, nothing_readable, right_in, scripted, write_comparisons
from rapidfuzz import fuzz

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Request
from cai_assets.evals.gate import (
    BUNDLED,
    UNGRADED_AT_MOST,
    GateResult,
    describe,
    human_pairs,
    measure_labeller,
    verdict,
)
from cai_assets.evals.refusal import is_refusal
from cai_assets.plan.dry import DryCompleter
from cai_assets.reports.gate import estimate_table, reliability_table
from cai_assets.settings import Gate, Settings
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

CONSTITUTION = Constitution(name="c", version="v1", principles=tuple(
    Principle(id=f"p{i}", preference=f"Prefer by rule {i}.") for i in range(4)))
GATE = Gate()


def measured(root: Path, score: Score, *, n: int = 400) -> GateResult:
    path = write_comparisons(root / "people.jsonl", n)
    settings = Settings(gate=Gate(path=path, pairs=n))
    complete = Completer(scripted(score), RowStore(Layout(root / "data")), seed=0)
    return measure_labeller(settings, CONSTITUTION, complete=complete)[0]


@pytest.mark.parametrize("share", [0.55, 0.7, 0.9])
def test_a_labeller_of_known_accuracy_comes_out_at_it(tmp_path: Path, share: float) -> None:
    result = measured(tmp_path, right_in(share))
    for accuracy in (result.accuracy_debiased, result.accuracy_first, result.accuracy_second, result.accuracy_agreed):
        assert accuracy.n == 400
        assert accuracy.low < share < accuracy.high  # type: ignore[operator]
    assert (result.consistency.value, result.ungraded.value, result.picks_first.value) == (1, 0, 0.5)
    assert result.kappa == pytest.approx(2 * result.accuracy_debiased.value - 1, abs=0.02)  # type: ignore[operator]
    assert verdict(result, GATE)[0] == (result.accuracy_debiased.low > 0.5)  # type: ignore[operator]
    assert verdict(result, Gate(accuracy=0.95))[0] is False


@pytest.mark.parametrize(("share", "sure"), [(0.7, 0.7), (0.7, 0.99), (0.9, 0.6)])
def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy(
    tmp_path: Path, share: float, sure: float
) -> None:
    result = measured(tmp_path, right_in(share, sure=sure))
    gap = abs(result.accuracy_debiased.value - sure)  # type: ignore[operator]
    assert result.calibration_error == pytest.approx(gap, abs=1e-9)
    filled = [b for b in result.reliability if b.n]
    assert [b.n for b in filled] == [400]
    assert filled[0].low - 1e-9 <= sure <= filled[0].high
    assert filled[0].confidence == pytest.approx(sure)


def test_one_that_picks_the_first_place_is_inconsistent_and_fails(tmp_path: Path) -> None:
    result = measured(tmp_path, first_place, n=100)
    assert result.consistency.value == 0
    assert result.picks_first.value == 1
    assert result.accuracy_debiased.value == pytest.approx(0.5)
    assert result.kappa == 0
    passed, why = verdict(result, Gate(accuracy=0.0))
    assert not passed
    assert "prefers a position" in why


def test_a_mild_place_bias_leaves_the_accuracy_and_shows_in_each_order(tmp_path: Path) -> None:
    def leaning(call: Call, request: Request) -> tuple[float, ...]:
        a, b = right_in(0.8, sure=0.6)(call, request)
        return a, b - 1.0

    result = measured(tmp_path, leaning)
    assert result.accuracy_debiased.low < 0.8 < result.accuracy_debiased.high  # type: ignore[operator]
    assert result.consistency.value == 0
    assert result.picks_first.value == 1


def test_one_that_grades_nothing_fails_with_the_reason(tmp_path: Path) -> None:
    result = measured(tmp_path, nothing_readable, n=20)
    assert (result.ungraded.value, result.accuracy_debiased.value, result.kappa) == (1, None, None)
    passed, why = verdict(result, Gate(accuracy=0.0, consistency=0.0))
    assert not passed
    assert "graded 0 of 20" in why
    assert "no letter can be read" in why


def test_failures_are_counted_and_never_scored(tmp_path: Path) -> None:
    def often_mute(call: Call, request: Request) -> tuple[float, ...]:
        if " answer 1" in str(call.messages):  # answers 1, 10 to 19, 100 to 199
            raise ValueError("mute")
        return right_in(1.0)(call, request)

    result = measured(tmp_path, often_mute, n=200)
    assert result.accuracy_debiased.value == 1
    assert result.accuracy_debiased.n == 200 - 111
    assert result.ungraded.value == pytest.approx(111 / 200)
    passed, why = verdict(result, GATE)
    assert not passed
    assert f"above {UNGRADED_AT_MOST:.0%}: mute" in why


def test_a_result_survives_a_record_and_shows_as_tables(tmp_path: Path) -> None:
    result = measured(tmp_path, right_in(0.7), n=50)
    again = GateResult.model_validate(json.loads(json.dumps(result.model_dump(mode="json"))))
    assert again == result
    assert {"accuracy_debiased", "consistency", "picks_first", "ungraded", "calibration_error", "kappa", "n"} <= set(
        describe(result))
    assert estimate_table(result).count("\n") == 8
    assert reliability_table(result).count("\n") == 6


def test_a_plan_counts_its_calls_and_nothing_is_graded(tmp_path: Path) -> None:
    settings = Settings(gate=Gate(path=write_comparisons(tmp_path / "people.jsonl", 30), pairs=20))
    dry = DryCompleter(scripted(first_place).identity, RowStore(Layout(tmp_path)), seed=0)
    result, _ = measure_labeller(settings, CONSTITUTION, complete=dry)
    assert (len(dry.missing), result.n, result.ungraded.value) == (40, 20, 1)


def test_the_bundled_comparisons_give_away_nothing_by_form() -> None:
    read = read_comparisons(BUNDLED)
    rows = read.frame.to_dicts()
    assert read.rejects.height == 0
    assert len(rows) >= 100
    assert len({r["prompt_id"] for r in rows}) == len(rows)
    asked = [r["messages"][0]["content"] for r in rows]
    assert not [pair for pair in combinations(asked, 2) if fuzz.ratio(*pair) > 80]
    for size in (len, lambda t: len(t.split())):
        longer = sum(size(r["chosen"]) > size(r["rejected"]) for r in rows)
        assert 0.4 <= longer / len(rows) <= 0.6
    refused = [(is_refusal(r["chosen"]), is_refusal(r["rejected"])) for r in rows]
    one_refuses = [chosen for chosen, rejected in refused if chosen != rejected]
    assert 0.4 <= sum(one_refuses) / len(one_refuses) <= 0.6
    human = human_pairs(read.frame)["human"].to_list()
    assert 0.4 <= human.count("A") / len(rows) <= 0.6
    assert all(json.loads(line)["why"] for line in BUNDLED.read_text(encoding="utf-8").splitlines())
