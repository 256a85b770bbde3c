"""Exercise 3 as a report: does an AI labeler agree with people? As a table, as JSON and as one HTML page.

Guarantees: every share has its count and interval; a half, which guessing gives, is marked in each figure; below a
hundred pairs the report says that they are too few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from cai_assets.evals.agreement import ENOUGH, LONGER, Agreement, bin_accuracy
from cai_assets.evals.gate import GateResult
from cai_assets.evals.statistics import NOT_SEEN, Estimate
from cai_assets.reports.html.page import Block, Figure, Group, Passage, Section, Source, Table, Text, page
from cai_assets.reports.html.plots import Point, both, intervals, scatter
from cai_assets.steps.reasons import reason_line

CHANCE = 0.5
LONG = 600  # characters of a text that are shown
MEASURES = (
    ("agrees with people, mean of both orders", "accuracy_debiased"),
    ("the same, first order alone", "accuracy_first"), ("the same, second order alone", "accuracy_second"),
    ("the same, where both orders agree", "accuracy_agreed"), ("both orders agree (swap consistency)", "consistency"),
    ("picks the first position", "picks_first"), ("ungraded", "ungraded"))


@dataclass(frozen=True)
class About:
    """Who was measured, on what, and the command to repeat it."""

    labeller: str
    constitution: str
    file: str
    command: str


def measures(agreement: Agreement) -> list[tuple[str, Estimate]]:
    """Every measure by its name in words, Cohen's kappa and the rule on length included."""
    result = agreement.result
    shares = [(name, getattr(result, field)) for name, field in MEASURES]
    kappa = Estimate(result.kappa, result.accuracy_debiased.n, result.kappa_low, result.kappa_high)
    return [*shares, (_KAPPA, kappa), (LONGER, agreement.longer)]


def sentences(agreement: Agreement, about: About) -> list[str]:
    """What was found, in words."""
    result = agreement.result
    lines = [f"{about.labeller} agrees with people on {result.accuracy_debiased} of the pairs: "
             f"{_than_a_coin(agreement)}.",
             f"Both orders agree on {result.consistency}; Cohen's kappa is {dict(measures(agreement))[_KAPPA]}."]
    if result.calibration_error is not None:
        lines.append(f"Confidence and accuracy differ by {result.calibration_error:.3f} on average.")
    if result.n < ENOUGH:
        lines.append(f"{result.n} pairs are too few to judge a labeler by: use {ENOUGH} or more.")
    return [*lines, *excluded(result)]


def excluded(result: GateResult) -> Iterator[str]:
    """What of the file was not compared, with the commonest reasons."""
    if line := reason_line(result.unusable, result.n + result.unusable, "rows of the file are no usable comparisons",
                           result.left_out):
        yield f"{line}."
    yield from result.notes


_KAPPA = "Cohen's kappa (A, B, and tie)"


def _than_a_coin(agreement: Agreement) -> str:
    word = {"better": "better than a coin flip", "worse": "worse than a coin flip",
            NOT_SEEN: "no evidence of a difference from a coin flip"}.get(agreement.verdict, agreement.verdict)
    return f"{word} ({agreement.beside})" if agreement.beside else word


def as_dict(agreement: Agreement, about: About) -> dict[str, Any]:
    """Plain JSON."""
    return {"about": asdict(about), "verdict": agreement.verdict, "result": agreement.result.model_dump(mode="json"),
            "longer": asdict(agreement.longer),
            "by_principle": {k: asdict(v) for k, v in agreement.by_principle.items()},
            "disagreements": [asdict(d) for d in agreement.disagreements]}


def render(agreement: Agreement, about: About) -> str:
    """The page."""
    sections = [Section("Agreement", list(_agreement(agreement, about))),
                Section("Reliability", list(_reliability(agreement, about))),
                Section("By principle", list(_by_principle(agreement, about))),
                Section("Confident disagreements with people", list(_disagreements(agreement))),
                Section("How to reproduce", [Text(about.command, code=True), *_ungraded(agreement)])]
    return page(f"Agreement with people: {about.labeller}", sections, summary=sentences(agreement, about),
                footer=f"Constitution {about.constitution}; human comparisons: {about.file}")


def _source(agreement: Agreement, about: About) -> Source:
    return Source(about.command, f"{agreement.result.n} comparisons of {about.file}")


def _agreement(agreement: Agreement, about: About) -> Iterator[Block]:
    source, rows = _source(agreement, about), dict(measures(agreement))
    shares = {name: e for name, e in rows.items() if name not in {_KAPPA, "ungraded"}}
    yield Figure(both(partial(intervals, shares, axis="share of pairs", line=CHANCE, bounds=(0.0, 1.0))),
                 "Agreement with people", "The dashed line is guessing.", source.command, source.rests_on,
                 words="; ".join(f"{name}: {e}" for name, e in shares.items()) + ".")
    yield Table("Every measure, with interval and count", ("measure", "value", "interval", "pairs"), [
        (name, e.value, _ends(e), e.n) for name, e in rows.items()] + [
        ("expected calibration error", agreement.result.calibration_error, "–", agreement.result.accuracy_debiased.n)],
        note="A contradiction between the two orders counts as a tie, and as a disagreement for kappa. A labeler no "
             "better than the length rule may have learned length.", source=source)


def _ends(e: Estimate) -> str:
    return "–" if e.low is None or e.high is None else f"{e.low:.3f} to {e.high:.3f}"


def _reliability(agreement: Agreement, about: About) -> Iterator[Block]:
    source = _source(agreement, about)
    bins = [b for b in agreement.result.reliability if b.n]
    points = [Point(f"n = {b.n}", Estimate(b.confidence, b.n), bin_accuracy(b)) for b in bins]
    yield Figure(both(partial(scatter, points, diagonal=True, bounds=((0.5, 1.0), (0.0, 1.0)),
                              x_axis="labeler confidence", y_axis="agrees with people")),
                 "Reliability diagram", "On the dashed line, confidence equals accuracy; below it, the labeler is "
                                        "overconfident.",
                 source.command, source.rests_on, words="; ".join(
                     f"confidence {b.confidence:.2f}: accuracy {bin_accuracy(b)}" for b in bins) + ".")
    yield Table("Bins of the diagram", ("confidence", "pairs", "mean confidence", "agrees", "interval"), [
        (f"{b.low:.1f} to {b.high:.1f}", b.n, b.confidence, b.accuracy, _ends(bin_accuracy(b)))
        for b in agreement.result.reliability])


def _by_principle(agreement: Agreement, about: About) -> Iterator[Block]:
    source = _source(agreement, about)
    yield Table("Agreement by the principle that judged the pair", ("principle", "agrees", "interval", "pairs"), [
        (name, e.value, _ends(e), e.n) for name, e in agreement.by_principle.items()],
        note="There are few pairs per principle: intervals are wide, and some look good or bad by "
             "chance.", source=source)


def _disagreements(agreement: Agreement) -> Iterator[Block]:
    for d in agreement.disagreements:
        yield Group(f"{d.pair_id}: sure {d.sure:.2f}", [
            Passage("Prompt", d.prompt[:LONG]), Passage("People chose", d.chosen_by_people[:LONG]),
            Passage("The labeler chose", d.chosen_by_labeller[:LONG])])


def _ungraded(agreement: Agreement) -> Iterator[Block]:
    if agreement.result.errors:
        yield Table("Why pairs are ungraded", ("reason", "pairs"), list(agreement.result.errors.items()))
    yield from map(Text, excluded(agreement.result))
