"""The headline numbers of a version's report, under names that stay the same, so that they plot over versions.

The table holds what the records measured and nothing of when and how often they were made: made again from nothing, it
is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from cai_assets.assets import BASE, PLAIN
from cai_assets.evals.judge import QUESTIONS
from cai_assets.evals.rounds import stops_paying
from cai_assets.evals.statistics import Estimate
from cai_assets.reports.text.numbers import interval, value_of
from cai_assets.reports.text.tables import short_table
from cai_assets.reports.version.answers import answers
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.labels import gate_of
from cai_assets.reports.version.policies import ALL, KINDS, difference, metric, rules_kept, wins
from cai_assets.reports.version.suites import attack_success
from cai_assets.reports.version.training import monitors

FIGURES = pl.Schema({"figure": pl.String(), "value": pl.Float64(), "low": pl.Float64(), "high": pl.Float64(),
                     "n": pl.Int64(), "told": pl.String(), "asset": pl.String()})


def figures(evidence: Evidence) -> pl.DataFrame:
    """FIGURES, those that the records can give."""
    return pl.DataFrame([row for row in _rows(evidence) if row[1] is not None], FIGURES, orient="row")


def numbers(table: pl.DataFrame) -> dict[str, float]:
    """Each figure's value by its name."""
    return dict(table.select("figure", "value").iter_rows())


def headline(evidence: Evidence) -> str:
    """The answers as a table, short enough to show in Dagster."""
    rows: list[tuple[str, object]] = [(a.question, a.told.word) for a in answers(evidence) if a.told is not None]
    if policy := evidence.policy:
        rows += [(f"{policy}: {q} over base", interval(difference(evidence, policy, BASE, q).estimate)) for q in KINDS]
    return short_table(("question", "answer"), rows, cell=60, rest="the page")


def _rows(evidence: Evidence) -> Iterator[tuple[Any, ...]]:
    for name in evidence.policies:
        for question in KINDS if name != BASE else ():
            yield _row(f"{name}_{question}_wins", wins(evidence, name, question), "", "evaluation")
    if policy := evidence.policy:
        for question in KINDS:
            for over in (BASE, PLAIN):
                d = difference(evidence, policy, over, question)
                yield _row(f"{policy}_{question}_over_{over}", d.estimate, d.verdict, "evaluation")
        yield _row(f"{policy}_refuses_helpful", metric(evidence, policy, "refusal", "helpful"), "", "evaluation")
        rules = rules_kept(evidence, policy)
        if rules:
            yield _row(f"{policy}_keeps_rules", value_of(rules[ALL]), rules[ALL]["verdict"], "evaluation")
        attacks = attack_success(evidence, policy)
        if attacks:
            yield _row(f"{policy}_attack_success", value_of(attacks), attacks["verdict"], "suite_results")
    yield from _others(evidence)


def _others(evidence: Evidence) -> Iterator[tuple[Any, ...]]:
    metrics = evidence.table("round_quality")
    for stop in [] if metrics is None else [stops_paying(metrics, q) for q in QUESTIONS]:
        yield _row(f"{stop.question}_rounds_that_gain", Estimate(float(stop.paying), stop.gain.n if stop.gain else 0),
                   stop.verdict, "round_quality")
    if gate := gate_of(evidence):
        yield _row("labels_agree_with_people", gate.accuracy_debiased, "", "preference_pairs")
        yield _row("label_orders_agree", gate.consistency, "", "preference_pairs")
    if found := evidence.conflicts:
        yield _row("pairs_of_principles_opposed", Estimate(float(len(found.opposed)), len(found.pairs)), "", "stress")
    findings = monitors(evidence)
    if findings:
        failed = sum(f.state == "failed" for _, f in findings)
        yield _row("hacking_monitors_failed", Estimate(float(failed), len(findings)), "", "rl_policy")


def _row(name: str, e: Estimate, verdict: str, asset: str) -> tuple[Any, ...]:
    return name, e.value, e.low, e.high, e.n, verdict, asset
