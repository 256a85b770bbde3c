"""The section on the labels: whether the labeler agrees with people and itself, and what the reward model learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from cai_assets.evals.agreement import bin_accuracy
from cai_assets.evals.gate import GateResult
from cai_assets.evals.reward_baselines import BASELINES
from cai_assets.evals.statistics import Estimate
from cai_assets.reports.compare.labels import rates
from cai_assets.reports.html.page import Block, Figure, Missing, Source, Table
from cai_assets.reports.html.plots import Point, both, scatter
from cai_assets.reports.reward import NAMES
from cai_assets.reports.text.numbers import amount, interval, share
from cai_assets.reports.version.evidence import Evidence

SURE, RIGHT = (0.5, 1.0), (0.0, 1.0)


def labels(evidence: Evidence) -> Iterator[Block]:
    """The labeler against people, its labels of this version, and the reward model on held-out pairs."""
    yield from _gate(evidence)
    yield from _rates(evidence)
    yield from _reward(evidence)


def gate_of(evidence: Evidence) -> GateResult | None:
    """The labeler against people, as it was measured when it made the labels."""
    record = evidence.record("preference_pairs")
    stored = record.details.get("gate") if record else None
    return GateResult.model_validate(stored) if stored else None


def _gate(evidence: Evidence) -> Iterator[Block]:
    gate = gate_of(evidence)
    if gate is None:
        yield Missing("the labeler has not been compared with people.", evidence.make("preference_pairs"))
        return
    source = Source(f"cai feedback {evidence.version}",
                    evidence.rests_on("preference_pairs", f"{gate.n} human comparisons"))
    points = [Point(f"n = {b.n}", Estimate(b.confidence, b.n), bin_accuracy(b)) for b in gate.reliability]
    yield Figure(both(partial(scatter, points, diagonal=True, bounds=(SURE, RIGHT), x_axis="labeler confidence",
                              y_axis="agrees with people")),
                 "Reliability of the labeler against people",
                 "On the dashed line, confidence equals accuracy; below it, the labeler is overconfident. n is the "
                 "number of comparisons behind a point.", reproduce=source.command, rests_on=source.rests_on,
                 words="; ".join(f"confidence {b.confidence:.2f}: accuracy {b.accuracy:.2f} of "
                                 f"{b.n}" for b in gate.reliability
                                 if b.confidence is not None and b.accuracy is not None) + ".")
    rows: list[tuple[str, str]] = [
        ("agrees with people (mean of both orders)", share(gate.accuracy_debiased)),
        ("the same, where both orders agree", share(gate.accuracy_agreed)),
        ("both orders agree (swap consistency)", share(gate.consistency)),
        ("picks the first position (50% means no bias)", share(gate.picks_first)),
        ("ungraded", share(gate.ungraded)),
        ("Cohen's kappa", amount(Estimate(gate.kappa, gate.accuracy_debiased.n, gate.kappa_low, gate.kappa_high))),
        ("expected calibration error", amount(Estimate(gate.calibration_error, gate.accuracy_debiased.n)))]
    yield Table("The labeler against people", ("measure", "share, interval, count"), rows,
                note="Guessing gives 50%. Measured with the same wording and settings as the labels, before any label "
                     "is used for training.", source=source)


def _rates(evidence: Evidence) -> Iterator[Block]:
    table = evidence.side.table("preference_pairs", "p_a", "label")
    if table is None:
        return
    r = rates(table, evidence.confidence)
    yield Table("The labels of this version", ("figure", "value"), [
        ("pairs", r.pairs), ("ungraded (including identical pairs)", r.ungraded),
        ("both orders agree", share(r.consistent)), ("ties: the orders disagree", share(r.ties)),
        ("mean strength, from 0.5 to 1", amount(r.strength))],
        source=Source(evidence.make("preference_pairs"), evidence.rests_on("preference_pairs", f"{r.pairs} pairs")))


def _reward(evidence: Evidence) -> Iterator[Block]:
    record = evidence.record("reward_model")
    figures = record.details.get("metrics", {}).get("held_out") if record else None
    if not figures:
        yield Missing("no reward model has been measured.", evidence.make("reward_model"))
        return
    source = Source(evidence.make("reward_model"), evidence.rests_on("reward_model", f"{figures['n']} held-out pairs"))
    rows = [("reward model", share(_figure(figures, "accuracy")), "–")]
    rows += [(NAMES[b], share(_figure(figures, f"{b}_accuracy")), interval(_figure(figures, f"over_{b}")))
             for b in BASELINES]
    yield Table("The reward model against simple rules, on the same held-out pairs", (
        "who", "agrees with the label", "reward model minus it"), rows,
        note="If length alone does as well, the reward model learned length.", source=source)
    points = [Point(f"n = {b['n']}", Estimate(b["confidence"], b["n"]), Estimate(b["label"], b["n"]))
              for b in figures.get("reliability", ())]
    if points:
        yield Figure(both(partial(scatter, points, diagonal=True, bounds=(SURE, RIGHT),
                                  x_axis="reward model confidence", y_axis="probability in the labels")),
                     "Reliability of the reward model", "On the dashed line, the reward model is as confident as the "
                                                        "labels.",
                     reproduce=source.command, rests_on=source.rests_on, words="; ".join(
                         f"confidence {b['confidence']:.2f}: label {b['label']:.2f}, {b['n']} pairs"
                         for b in figures["reliability"]) + ".")


def _figure(figures: Mapping[str, Any], name: str) -> Estimate:
    return Estimate(figures.get(name), figures["n"], figures.get(f"{name}_low"), figures.get(f"{name}_high"))

