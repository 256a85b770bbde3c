from __future__ import annotations

import math
from typing import Any

import pytest

from cai_assets.evals.reward import (
    Result,
    accuracy_by,
    calibration,
    correlation,
    length_correlation,
    measure,
    outcomes,
)
from cai_assets.evals.reward_baselines import BASELINES, guesses
from cai_assets.reports.reward import accuracy_table, group_table, reliability_table
from cai_assets.settings.method import ENOUGH

REFUSAL = "I'm sorry, but I cannot help with that."


def row(chosen: str, rejected: str, p: float = 1.0, *, held_out: bool = False) -> dict[str, Any]:
    return {"chosen": chosen, "rejected": rejected, "p_chosen": p, "held_out": held_out}


def results(margins: list[float], labels: list[float]) -> list[Result]:
    return [Result(i, m, 0.0, p) for i, (m, p) in enumerate(zip(margins, labels, strict=True))]


def test_right_wrong_and_cannot_tell() -> None:
    assert outcomes([1, -1, 0, 2, -2], [0.9, 0.9, 0.9, 0.1, 0.1]) == [1, 0, 0.5, 0, 1]


def test_a_label_of_one_half_counts_nowhere_as_right_or_wrong() -> None:
    rows = [row("a b", "c", p, held_out=True) for p in (0.5, 1.0, 0.5)]
    figures = measure(rows, results([5.0, 5.0, -5.0], [0.5, 1.0, 0.5]))
    assert (figures["n"], figures["accuracy"]) == (1, 1.0)
    assert sum(x["n"] for x in figures["reliability"]) == 3
    assert accuracy_by(results([5.0, 5.0], [0.5, 0.5]), ["x", "x"]) == {}


def test_the_length_baseline_takes_the_way_of_the_training_pairs() -> None:
    shorter = [row("no", "a long answer")] * 5 + [row("a long answer", "no")] * 2
    unseen = [row("b", "ccc"), row("ccc", "b"), row("b", "c")]
    assert guesses(shorter, unseen)["length"] == [1, -1, 0]
    assert guesses([row("a long answer", "no")], unseen)["length"] == [-1, 1, 0]


def test_the_refusal_baseline_tells_only_where_one_side_refuses() -> None:
    unseen = [row("Here you are.", REFUSAL), row(REFUSAL, "Here you are."), row("One.", "Two.")]
    assert guesses([row(REFUSAL, "Sure.")] * 3, unseen)["refusal"] == [-1, 1, 0]
    assert guesses([row("Sure.", REFUSAL)] * 3, unseen)["refusal"] == [1, -1, 0]


def test_the_tfidf_baseline_learns_words_and_is_antisymmetric() -> None:
    training = [row("kind word here", "rude word here"), row("so kind", "so rude")] * 10
    unseen = [row("a kind b", "a rude b"), row("a rude b", "a kind b"), row("zzz", "qqq")]
    first, second, third = guesses(training, unseen)["tfidf"]
    assert first > 0
    assert first == pytest.approx(-second)
    assert third == 0


@pytest.mark.parametrize("training", [[], [row("?!", "...")], [row("same", "same")]])
def test_a_baseline_with_nothing_to_learn_from_cannot_tell(training: list[dict[str, Any]]) -> None:
    assert guesses(training, [row("x y", "z")])["tfidf"] == [0.0]


def test_model_and_baselines_are_measured_on_the_same_pairs() -> None:
    held = [row(f"good {i} and longer", f"bad {i}", held_out=True) for i in range(40)]
    training = [row(f"good {i}", f"bad {i} but longer") for i in range(30)]
    figures = measure([*held, *training], results([1.0] * 30 + [-1.0] * 10, [1.0] * 40))
    assert (figures["n"], figures["accuracy"]) == (40, 0.75)
    assert figures["accuracy_low"] < 0.75 < figures["accuracy_high"]
    assert (figures["length_accuracy"], figures["over_length"]) == (0.0, 0.75)
    assert (figures["refusal_accuracy"], figures["refusal_undecided"], figures["over_refusal"]) == (0.5, 40, 0.25)
    assert (figures["tfidf_accuracy"], figures["over_tfidf"]) == (1.0, -0.25)
    assert figures["over_length_low"] > 0 > figures["over_tfidf_high"]


@pytest.mark.parametrize("flipped", [False, True])
def test_calibration_is_zero_where_margins_are_log_odds_whichever_side_is_called_chosen(flipped: bool) -> None:
    labels = [0.55, 0.65, 0.75, 0.85, 0.95] * 4
    labels = [1 - p for p in labels] if flipped else labels
    figures = calibration(results([math.log(p / (1 - p)) for p in labels], labels))
    assert figures["calibration_error"] == pytest.approx(0, abs=1e-12)
    assert [x["n"] for x in figures["reliability"]] == [4] * 5


def test_calibration_error_of_a_model_that_is_too_sure() -> None:
    figures = calibration(results([50.0] * 8 + [-50.0] * 2, [0.7] * 10))
    assert figures["calibration_error"] == pytest.approx(1 - (8 * 0.7 + 2 * 0.3) / 10)
    assert calibration([]) == {"calibration_error": None, "reliability": []}


def test_a_reward_that_is_length_correlates_with_it() -> None:
    rows = [row("x" * (i + 2), "x", held_out=True) for i in range(30)]
    found = length_correlation(rows, [Result(i, i + 2.0 + (i % 3), 1.0, 1.0) for i in range(30)])
    assert found.value is not None
    assert found.low is not None
    assert 0.9 < found.low < found.value < 1
    assert found.n == 30
    assert length_correlation([row("a", "b")] * 5, results([1.0] * 5, [1.0] * 5)).value is None


def test_correlation_says_when_it_is_undefined() -> None:
    assert correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1)
    assert correlation([1.0, 1.0, 1.0], [2.0, 4.0, 6.0]) is None
    assert correlation([1.0, 2.0], [2.0, 4.0]) is None


def test_groups_follow_the_rows_and_small_ones_are_not_told() -> None:
    made = results([1.0] * 25 + [-1.0] * 3, [1.0] * 28)
    groups = accuracy_by(made, ["p|1"] * 25 + ["p2"] * 2 + [None])
    assert {name: (x.value, x.n) for name, x in groups.items()} == {"p2": (0.0, 2), "p|1": (1.0, 25)}
    table = group_table(groups, "principle")
    assert "p\\|1" in table
    assert "| p2 | too few to tell (n = 2; 20 needed, which tell 80% right from guessing) |" in table
    assert group_table({}, "principle") == ""


def test_nothing_held_out_is_unknown_and_not_zero() -> None:
    figures = measure([row("a", "b")], [])
    assert (figures["n"], figures["accuracy"], figures["calibration_error"]) == (0, None, None)
    assert "unknown" in accuracy_table(figures)
    assert reliability_table(figures) == ""


def test_the_accuracy_table_is_short_and_says_when_pairs_are_too_few() -> None:
    for n in (ENOUGH - 1, ENOUGH):
        rows = [row(f"good {i}", "bad", held_out=True) for i in range(n)]
        table = accuracy_table(measure(rows, results([1.0] * n, [1.0] * n)))
        assert len(table) < 1000
        assert ("too few to tell" in table) == (n < ENOUGH)
        assert table.count("\n") >= len(BASELINES) + 2
