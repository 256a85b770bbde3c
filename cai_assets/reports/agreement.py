"""Exercise 3 as a report: does an AI labeller agree with people? As a table, as JSON and as one HTML page.

Guarantees: every share has its count and interval; a half, which guessing gives, is marked in each figure; below a
hundred pairs the report says that they are too few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from cai_assets.evals.agreement import ENOUGH, LONGER, Agreement, bin_accuracy
from cai_assets.evals.statistics import NOT_SEEN, Estimate
from cai_assets.reports.html.page import Block, Figure, Group, Passage, Section, Source, Table, Text, page
from cai_assets.reports.html.plots import Point, both, intervals, scatter

CHANCE = 0.5
LONG = 600  # characters of a text that are shown
MEASURES = (
    ("agrees with people, mean of both orders", "accuracy_debiased"),
    ("the same, first order alone", "accuracy_first"), ("the same, second order alone", "accuracy_second"),
    ("the same, where both orders agree", "accuracy_agreed"), ("both orders agree (swap consistency)", "consistency"),
    ("picks the first position", "picks_first"), ("ungraded", "ungraded"))


@dataclass(frozen=True)
class About:
    """Who was measured, on what, and the command that does it again."""

    labeller: str
    constitution: str
    file: str
    command: str


def measures(found: Agreement) -> list[tuple[str, Estimate]]:
    """Every measure by its name in words, Cohen's kappa and the rule on length included."""
    result = found.result
    shares = [(name, getattr(result, field)) for name, field in MEASURES]
    kappa = Estimate(result.kappa, result.accuracy_debiased.n, result.kappa_low, result.kappa_high)
    return [*shares, ("Cohen's kappa (A, B, and tie)", kappa), (LONGER, found.longer)]


def sentences(found: Agreement, about: About) -> list[str]:
    """What was found, in words."""
    result = found.result
    said = [f"{about.labeller} agrees with people on {result.accuracy_debiased} of the pairs: {_than_a_coin(found)}.",
            f"Both orders agree on {result.consistency}; Cohen's kappa is {dict(measures(found))[_KAPPA]}."]
    if result.calibration_error is not None:
        said.append(f"Confidence and accuracy differ by {result.calibration_error:.3f} on average.")
    if result.n < ENOUGH:
        said.append(f"{result.n} pairs are too few to judge a labeller by: use {ENOUGH} or more.")
    return said


_KAPPA = "Cohen's kappa (A, B and tie)"


def _than_a_coin(found: Agreement) -> str:
    return {"better": "better than a coin flip", "worse": "worse than a coin flip",
            NOT_SEEN: "no evidence of a difference from a coin flip"}.get(found.verdict, found.verdict)


def as_dict(found: Agreement, about: About) -> dict[str, Any]:
    """Plain JSON."""
    return {"about": asdict(about), "verdict": found.verdict, "result": found.result.model_dump(mode="json"),
            "longer": asdict(found.longer), "by_principle": {k: asdict(v) for k, v in found.by_principle.items()},
            "disagreements": [asdict(d) for d in found.disagreements]}


def render(found: Agreement, about: About) -> str:
    """The page."""
    sections = [Section("Agreement", list(_agreement(found, about))),
                Section("Reliability", list(_reliability(found, about))),
                Section("By principle", list(_by_principle(found, about))),
                Section("Confident disagreements with people", list(_disagreements(found))),
                Section("How to reproduce", [Text(about.command, code=True), *_ungraded(found)])]
    return page(f"Agreement with people: {about.labeller}", sections, summary=sentences(found, about),
                footer=f"Constitution {about.constitution}; human comparisons: {about.file}")


def _source(found: Agreement, about: About) -> Source:
    return Source(about.command, f"{found.result.n} comparisons of {about.file}")


def _agreement(found: Agreement, about: About) -> Iterator[Block]:
    source, rows = _source(found, about), dict(measures(found))
    shares = {name: e for name, e in rows.items() if name not in {_KAPPA, "ungraded"}}
    yield Figure(both(partial(intervals, shares, axis="share of pairs", line=CHANCE, bounds=(0.0, 1.0))),
                 "Agreement with people", "The dashed line is guessing.", source.command, source.rests_on,
                 words="; ".join(f"{name}: {e}" for name, e in shares.items()) + ".")
    yield Table("Every measure, with interval and count", ("measure", "value", "interval", "pairs"), [
        (name, e.value, _ends(e), e.n) for name, e in rows.items()] + [
        ("expected calibration error", found.result.calibration_error, "–", found.result.accuracy_debiased.n)],
        note="A contradiction between the two orders counts as a tie, and as a disagreement for kappa. A labeler no "
             "better than the length rule may have learned length.", source=source)


def _ends(e: Estimate) -> str:
    return "–" if e.low is None or e.high is None else f"{e.low:.3f} to {e.high:.3f}"


def _reliability(found: Agreement, about: About) -> Iterator[Block]:
    source = _source(found, about)
    bins = [b for b in found.result.reliability if b.n]
    points = [Point(f"n = {b.n}", Estimate(b.confidence, b.n), bin_accuracy(b)) for b in bins]
    yield Figure(both(partial(scatter, points, diagonal=True, bounds=((0.5, 1.0), (0.0, 1.0)),
                              x_axis="labeler confidence", y_axis="agrees with people")),
                 "Reliability diagram", "On the dashed line, confidence equals accuracy; below it, the labeler is "
                                        "overconfident.",
                 source.command, source.rests_on, words="; ".join(
                     f"confidence {b.confidence:.2f}: accuracy {bin_accuracy(b)}" for b in bins) + ".")
    yield Table("Bins of the diagram", ("confidence", "pairs", "mean confidence", "agrees", "interval"), [
        (f"{b.low:.1f} to {b.high:.1f}", b.n, b.confidence, b.accuracy, _ends(bin_accuracy(b)))
        for b in found.result.reliability])


def _by_principle(found: Agreement, about: About) -> Iterator[Block]:
    source = _source(found, about)
    yield Table("Agreement by the principle that judged the pair", ("principle", "agrees", "interval", "pairs"), [
        (name, e.value, _ends(e), e.n) for name, e in found.by_principle.items()],
        note="There are few pairs per principle: intervals are wide, and some look good or bad by "
             "chance.", source=source)


def _disagreements(found: Agreement) -> Iterator[Block]:
    for d in found.disagreements:
        yield Group(f"{d.pair_id}: sure {d.sure:.2f}", [
            Passage("Prompt", d.prompt[:LONG]), Passage("People chose", d.chosen_by_people[:LONG]),
            Passage("The labeler chose", d.chosen_by_labeller[:LONG])])


def _ungraded(found: Agreement) -> Iterator[Block]:
    if found.result.errors:
        yield Table("Why pairs are ungraded", ("reason", "pairs"), list(found.result.errors.items()))
    if found.result.unusable:
        yield Text(f"{found.result.unusable} rows of the file are not usable comparisons and were excluded.")
