"""From rows to metrics: each measure of each policy in each suite and mode, with its interval and its difference.

Guarantees: intervals and counts are of requests (``behaviour``), not of their wrappings and samples, which are not
independent; a difference from ``base`` is paired case by case, and is 'too few to tell' below ``enough`` requests;
failed and ungraded answers are counted and left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from cai_assets.assets import BASE
from cai_assets.evals.measures import SuiteMeasure, measures_on, suite_measures
from cai_assets.evals.statistics import Estimate, clustered_difference, clustered_mean, told
from cai_assets.evals.suites.model import ATTACK, ATTACKS, POOLED, Suite

SUITE_METRICS = pl.Schema({
    "policy": pl.String(), "suite": pl.String(), "kind": pl.String(), "mode": pl.String(), "measure": pl.String(),
    "headline": pl.Boolean(), "better": pl.String(), "value": pl.Float64(), "low": pl.Float64(), "high": pl.Float64(),
    "n": pl.Int64(), "ungraded": pl.Int64(), "failed": pl.Int64(), "delta": pl.Float64(), "delta_low": pl.Float64(),
    "delta_high": pl.Float64(), "delta_n": pl.Int64(), "verdict": pl.String(),
})

SuiteRows = Sequence[Mapping[str, Any]]


class Group(NamedTuple):
    """Rows of every policy that are measured together."""

    suite: str
    kind: str
    mode: str
    measures: Mapping[str, SuiteMeasure]
    headline: str
    rows: Mapping[str, SuiteRows]


def suite_metrics(
    rows: pl.DataFrame, suites: Sequence[Suite], policies: Sequence[str], *, enough: int, confidence: float
) -> pl.DataFrame:
    """The table of SUITE_METRICS, by suite, mode, policy and measure.

    Mode 'all' is all modes of a suite together; suite ``POOLED``, of kind 'attack', is all attacks together.
    """
    of: defaultdict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.iter_rows(named=True):
        of[row["suite"], row["mode"]][row["policy"]].append(row)
    metrics, measures = list[dict[str, Any]](), suite_measures()
    for suite in suites:
        modes = {str(m): of[suite.name, m] for m in suite.spec.asked_modes}
        metrics += _of_suite(suite, measures_on(suite.kind, measures), modes, policies, enough, confidence)
    attacks = [of[s.name, m] for s in suites if s.kind in ATTACKS for m in s.spec.asked_modes]
    if attacks:
        pooled = Group(POOLED, ATTACK, "all", measures_on(ATTACK, measures), "compliance", _together(attacks, policies))
        metrics += measured(pooled, policies, enough, confidence)
    return pl.DataFrame(metrics, schema=SUITE_METRICS)


def _of_suite(
    suite: Suite, measures: Mapping[str, SuiteMeasure], modes: Mapping[str, Mapping[str, SuiteRows]],
    policies: Sequence[str], enough: int, confidence: float,
) -> list[dict[str, Any]]:
    each = [measured(Group(suite.name, suite.kind, mode, measures, suite.spec.measure, rows), policies, enough,
                     confidence) for mode, rows in modes.items()]
    if len(each) == 1:  # of one mode, 'all' is the same
        return [*each[0], *({**m, "mode": "all"} for m in each[0])]
    every = Group(suite.name, suite.kind, "all", measures, suite.spec.measure, _together(modes.values(), policies))
    return [m for metrics in [*each, measured(every, policies, enough, confidence)] for m in metrics]


def _together(groups: Any, policies: Sequence[str]) -> dict[str, SuiteRows]:
    return {policy: [row for group in groups for row in group.get(policy, ())] for policy in policies}


def measured(group: Group, policies: Sequence[str], enough: int, confidence: float) -> list[dict[str, Any]]:
    """The rows of SUITE_METRICS of one group, by policy and measure."""
    return [_metric(group, policy, measure, enough, confidence) for policy in policies for measure in group.measures]


def _metric(group: Group, policy: str, measure: str, enough: int, confidence: float) -> dict[str, Any]:
    rows, declared = group.rows.get(policy, ()), group.measures[measure]
    column, better = declared.column_as(measure), declared.better[group.kind]
    graded = [r for r in rows if r[column] is not None]
    bounds = (0.0, 1.0) if declared.rate else None
    value = clustered_mean([float(r[column]) for r in graded], [r["behaviour"] for r in graded], confidence,
                           bounds=bounds)
    delta = Estimate(None, 0)
    if policy != BASE:
        delta = clustered_difference(*_paired(graded, group.rows.get(BASE, ()), column), confidence,
                                     bounds=bounds and (-1.0, 1.0))
    verdict = told(delta, enough=enough, better=better) if better and policy != BASE else ""
    failed = sum(r["status"] == "failed" for r in rows)
    return {
        "policy": policy, "suite": group.suite, "kind": group.kind, "mode": group.mode, "measure": measure,
        "headline": measure == group.headline, "better": better, "value": value.value, "low": value.low,
        "high": value.high, "n": value.n, "ungraded": len(rows) - failed - len(graded), "failed": failed,
        "delta": delta.value, "delta_low": delta.low, "delta_high": delta.high, "delta_n": delta.n, "verdict": verdict,
    }


def _paired(rows: SuiteRows, base: SuiteRows, column: str) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """For each side the values of the cases that both have, by request: each case once, its samples averaged."""
    ours, theirs = _by_case(rows, column), _by_case(base, column)
    a: dict[str, list[float]] = {}
    b: dict[str, list[float]] = {}
    for case in sorted(ours.keys() & theirs.keys()):
        for side, values in ((a, ours[case]), (b, theirs[case])):
            side.setdefault(case[0], []).append(sum(values) / len(values))
    return a, b


def _by_case(rows: SuiteRows, column: str) -> dict[tuple[str, ...], list[float]]:
    values: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for r in rows:
        if r[column] is not None:
            values[r["behaviour"], r["suite"], r["mode"], r["case_id"]].append(float(r[column]))
    return values
