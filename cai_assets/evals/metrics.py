"""The table of an evaluation: each measure of each policy, and how far it is from the base model's.

Guarantees: a measure counts prompts, however often each was answered; ``ungraded`` counts the answers and comparisons
that were left out of it, which are never scored; a difference is of the same prompts, and its verdict is
"too few to tell" below ``enough`` of them. The rate of wins over base is by definition one half for base itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import polars as pl

from cai_assets.constitution.model import Principle
from cai_assets.evals.adherence import by_principle
from cai_assets.evals.judge import Question
from cai_assets.evals.judge_items import Item
from cai_assets.evals.length_control import length_controlled
from cai_assets.evals.measures import EVALUATION, LENGTH_CONTROLLED, EvaluationMeasure
from cai_assets.evals.statistics import Estimate, Telling, clustered_difference, clustered_mean, told

JUDGED: dict[str, Question] = {"red-team": "harmlessness", "helpful": "helpfulness"}
EVEN = 0.5
RIVAL = "{rival}"
CHECK = "check"

METRICS_SCHEMA: dict[str, Any] = {
    "policy": pl.String, "metric": pl.String, "prompts": pl.String, "value": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "n": pl.Int64, "ungraded": pl.Int64, "delta": pl.Float64, "delta_low": pl.Float64,
    "delta_high": pl.Float64, "delta_n": pl.Int64, "verdict": pl.String,
}


class Figure(NamedTuple):
    """A row of the table to build: what is measured, the names it has, and the items that it averages."""

    measure: EvaluationMeasure
    metric: str
    prompts: str
    items: Sequence[Item]


def metrics_table(
    items: Sequence[Item], policies: Sequence[str], principles: Sequence[Principle], *, baseline: str,
    confidence: float, enough: int, checks: Sequence[str] = (),
) -> pl.DataFrame:
    """METRICS_SCHEMA of measured and judged items, in the order of ``policies``. ``checks``: principles by whose check
    every answer was measured."""
    telling, of = Telling(confidence, enough), defaultdict[str, list[Item]](list)
    for item in items:
        of[item["policy"]].append(item)
    base = {(f.metric, f.prompts): f.items for f in _figures(of[baseline], principles, checks, baseline=True)}
    rows: list[tuple[Any, ...]] = []
    for policy in policies:
        compared_with = {} if policy == baseline else base
        rows += [(policy, *_row(f, compared_with, telling))
                 for f in _figures(of[policy], principles, checks, baseline=policy == baseline)]
    return pl.DataFrame(rows, METRICS_SCHEMA, orient="row")


def _figures(
    items: Sequence[Item], principles: Sequence[Principle], checks: Sequence[str], *, baseline: bool
) -> Iterator[Figure]:
    """What is measured for a policy; for the base model only what others are compared with."""
    for m in EVALUATION:
        if not baseline or m.over == "base":
            yield from _of_measure(m, items, principles, checks)


def _of_measure(
    m: EvaluationMeasure, items: Sequence[Item], principles: Sequence[Principle], checks: Sequence[str]
) -> Iterator[Figure]:
    """One figure, or one for each principle or rival."""
    mine = [i for i in items if (i["category"] == m.category if m.category else m.prompts in ("all", i["kind"]))]
    if m.name == "adherence":
        yield from (Figure(m, m.name, prompts, of) for prompts, of in by_principle(items, principles).items())
    elif m.name == CHECK:
        yield from (Figure(replace(m, column=f"{CHECK}:{principle}"), m.name, f"principle:{principle}", mine)
                    for principle in checks)
        yield from [Figure(m, m.name, m.prompts, mine)] if checks else []
    elif RIVAL in m.name:
        yield from (Figure(m, m.name.replace(RIVAL, rival), m.prompts, mine)
                    for rival in sorted({i["rival"] for i in mine if i.get("rival")}))
    elif mine or not m.category:
        yield Figure(m, m.name, m.prompts, mine)


def _row(f: Figure, base: Mapping[tuple[str, str], Sequence[Item]], telling: Telling) -> tuple[Any, ...]:
    """``base``: the baseline's items of each figure; empty for the baseline itself."""
    m, values = f.measure, _by_prompt(f.items, f.measure.column)
    e = _length_controlled(f.items, telling) if m.name.endswith(LENGTH_CONTROLLED) else _mean(m, values, telling)
    difference = None
    if m.over == "even":
        difference = _from_even(e)
    elif m.over == "base" and base:
        difference = clustered_difference(values, _by_prompt(base.get((f.metric, f.prompts), ()), m.column),
                                          telling.confidence, bounds=(-1.0, 1.0) if m.rate else None)
    word = told(difference, enough=telling.enough, better=m.better) if difference else ""
    d = difference or Estimate(None, 0)
    left_out = len(f.items) - sum(map(len, values.values()))
    return f.metric, f.prompts, e.value, e.low, e.high, e.n, left_out, d.value, d.low, d.high, d.n, word


def _mean(m: EvaluationMeasure, by_prompt: Mapping[str, Sequence[float]], telling: Telling) -> Estimate:
    values, prompts = [v for of in by_prompt.values() for v in of], [p for p, of in by_prompt.items() for _ in of]
    return clustered_mean(values, prompts, telling.confidence, bounds=(0.0, 1.0) if m.rate else None)


def _length_controlled(items: Sequence[Item], telling: Telling) -> Estimate:
    graded = [i for i in items if i["outcome"] is not None]
    return length_controlled([i["outcome"] for i in graded], [i["words"] - i["words_baseline"] for i in graded],
                             [i["prompt_id"] for i in graded], telling.confidence)


def _from_even(e: Estimate) -> Estimate:
    value, low, high = (None if x is None else x - EVEN for x in (e.value, e.low, e.high))
    return Estimate(value, e.n, low, high)


def _by_prompt(items: Sequence[Item], column: str) -> dict[str, list[float]]:
    by_prompt: defaultdict[str, list[float]] = defaultdict(list)
    for item in items:
        if item.get(column) is not None:
            by_prompt[item["prompt_id"]].append(float(item[column]))
    return by_prompt
