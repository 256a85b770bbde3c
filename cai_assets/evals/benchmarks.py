"""A judge on benchmarks where style misleads: asked as for labels, and measured by what each shape asks for.

A judge that likes length or lists does well where the right answer has them and fails where the wrong one has: the
accuracy of the easy stratum less that of the hard one is how far looks decide (RM-Bench). Guarantees: every comparison
is asked in both orders, with the side shown first decided by a hash; a row that could not be graded whole is counted
and never scored; one row is one observation, however many comparisons it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from cai_assets.constitution.model import Constitution
from cai_assets.evals.power import detectable, would_pass
from cai_assets.evals.statistics import Estimate, Telling, clustered_mean
from cai_assets.settings import Gate, Settings
from cai_assets.settings.method import CONFIDENCE
from cai_assets.steps.benchmark_files import Benchmark, Kind, Task, every_match, read_benchmark
from cai_assets.steps.complete import Completer
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import SCHEMA
from cai_assets.store.canonical import tagged_hash

ALL = "all"
STRATA = ("easy", "normal", "hard")
OWN = {"benchmark": pl.String, "task_id": pl.String, "shape": pl.String, "stratum": pl.String, "better": pl.String,
       "place_better": pl.Int64, "place_worse": pl.Int64}


class Measured(BaseModel):
    """The rows of one shape in one category (ALL: in all). ``right``: the share that the judge gets right: of pairs the
    better text; of best-of rows the right one before all others; of ties every right one before every wrong one, and
    right ones closer to each other than to any wrong one; of styles the share of its nine comparisons. ``chance``: what
    guessing gives. ``strata``, ``gap`` (easy less hard): of styles. ``rank``: of ladders, Spearman's correlation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Kind
    category: str
    rows: int
    ungraded: int
    chance: float
    right: Estimate | None = None
    strata: dict[str, Estimate] = {}
    gap: Estimate | None = None
    rank: Estimate | None = None


class BenchmarkResult(BaseModel):
    """A file: its measures, of all rows of each shape first, and what could not be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    measured: tuple[Measured, ...]
    unusable: int = 0
    left_out: dict[str, int] = {}
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> list[Measured]:
        """Of each shape, all of its rows."""
        return [m for m in self.measured if m.category == ALL]


def measure_benchmarks(
    settings: Settings, constitution: Constitution, *, complete: Completer
) -> tuple[tuple[BenchmarkResult, ...], pl.DataFrame]:
    """Every file of ``gate.benchmarks``, and its labeled comparisons (OWN and the columns of labels).

    Raise DataError if a file cannot be read.
    """
    gate = settings.gate
    found = [read_benchmark(path, limit=gate.benchmark_rows) for path in gate.benchmarks]
    pairs = pl.concat([pl.DataFrame(schema={**SCHEMA, **OWN}), *map(_pairs, found)])
    labeled = label_pairs(pairs.drop(list(OWN)), constitution, complete=complete, settings=settings.labels)
    labeled = labeled.with_columns(pairs.select(list(OWN)))
    return tuple(_result(b, labeled.filter(benchmark=b.name), settings.evaluation.confidence) for b in found), labeled


def faults(results: Sequence[BenchmarkResult], gate: Gate, confidence: float = CONFIDENCE) -> list[str]:
    """Where a judge is not good enough: no better than guessing, on the hard stratum no better than ``gate.accuracy``,
    easy less hard above ``gate.hard_gap``, or ladders not ordered."""
    return [f"{result.name}: {fault}" for result in results for fault in [
        *([] if result.measured else ["no row could be used"]),
        *(x for m in result.whole for x in _faults(m, gate, confidence))]]


def _faults(m: Measured, gate: Gate, confidence: float) -> list[str]:
    out = []
    if m.rows == m.ungraded:
        return [f"none of {m.rows} rows ({m.shape}) was graded"]
    if m.right is not None and (m.right.low or 0.0) <= m.chance:
        out.append(f"{m.shape}: it is right in {m.right}, and the interval's lower end must lie above {m.chance:.2f}"
                   + would_pass(m.right.n, confidence, above=m.chance))
    if (hard := m.strata.get("hard")) is not None and (hard.low or 0.0) <= gate.accuracy:
        out.append(f"where looks speak against the better answer it is right in {hard}, and the interval's lower end "
                   f"must lie above gate.accuracy={gate.accuracy:g}"
                   + would_pass(hard.n, confidence, above=gate.accuracy))
    if m.gap is not None and (m.gap.value or 0.0) > gate.hard_gap:
        out.append(f"easy less hard is {m.gap}, above gate.hard_gap={gate.hard_gap:g}: it judges by looks")
    if m.rank is not None and (m.rank.low is None or m.rank.low <= 0):
        size = detectable(m.rank, Telling(confidence, 2))
        out.append(f"it ranks degraded answers with a correlation of {m.rank}, whose interval must lie above 0"
                   + (f" (detectable: {size:.2g})" if size else ""))
    return out


def _pairs(benchmark: Benchmark) -> pl.DataFrame:
    rows = []
    for task, match in every_match(benchmark.tasks):
        i, j = match.places
        pair_id = f"{task.task_id}/{match.stratum or 'pair'}-{i}-{j}"
        better = "AB"[int(tagged_hash("gate-side", pair_id)[-1], 16) % 2]
        a, b = (match.better, match.worse) if better == "A" else (match.worse, match.better)
        rows.append({"pair_id": pair_id, "prompt_id": task.task_id, "kind": "gate", "category": task.category,
                     "messages": list(task.messages), "response_a": a, "response_b": b, "identical": a == b,
                     "benchmark": benchmark.name, "task_id": task.task_id, "shape": task.kind,
                     "stratum": match.stratum, "better": better, "place_better": i, "place_worse": j})
    return pl.DataFrame(rows, schema={**SCHEMA, **OWN})


def _result(benchmark: Benchmark, labeled: pl.DataFrame, confidence: float) -> BenchmarkResult:
    answers: dict[str, list[dict[str, Any]]] = {}
    for row in labeled.iter_rows(named=True):
        answers.setdefault(row["task_id"], []).append(row)
    shapes = dict.fromkeys(task.kind for task in benchmark.tasks)
    measured = []
    for shape in shapes:
        tasks = [task for task in benchmark.tasks if task.kind == shape]
        named = sorted({task.category for task in tasks} - {ALL})
        by = {category: [t for t in tasks if category in (ALL, t.category)] for category in (ALL, *named)}
        measured += [_measured(shape, category, some, answers, confidence) for category, some in by.items()]
    return BenchmarkResult(name=benchmark.name, measured=tuple(measured), unusable=sum(benchmark.left_out.values()),
                           left_out=benchmark.left_out, notes=benchmark.notes)


def _measured(shape: Kind, category: str, tasks: Sequence[Task], answers: Mapping[str, list[dict[str, Any]]],
              confidence: float) -> Measured:
    graded = {t.task_id: [(row, _p(row)) for row in answers[t.task_id]] for t in tasks
              if all(row["p_a"] is not None or row["identical"] for row in answers[t.task_id])}
    chance = sum(_chance(t) for t in tasks) / len(tasks)
    found: dict[str, Any] = {"shape": shape, "category": category, "rows": len(tasks), "chance": chance,
                             "ungraded": len(tasks) - len(graded)}
    every, ids = list(graded.values()), list(graded)
    if not every:
        return Measured(**found)

    def rate(values: Sequence[float], low: float = 0.0) -> Estimate:
        return clustered_mean(values, ids, confidence, bounds=(low, 1.0))

    match shape:
        case "ladder":
            found["rank"] = rate([_rank(each) for each in every], -1.0)
        case "styles":
            by = {s: [fmean([_point(p) for row, p in each if row["stratum"] == s]) for each in every] for s in STRATA}
            found |= {"right": rate([fmean([_point(p) for _, p in each]) for each in every]),
                      "strata": {s: rate(values) for s, values in by.items()},
                      "gap": rate([e - h for e, h in zip(by["easy"], by["hard"], strict=True)], -1.0)}
        case "ties":
            found["right"] = rate([float(_tie(each)) for each in every])
        case _:
            found["right"] = rate([_first([_point(p) for _, p in each]) for each in every])
    return Measured(**found)


def _first(points: Sequence[float]) -> float:
    """Whether one is before all others; of a tie for the first place its share."""
    return 0.0 if 0.0 in points else 1 / (1 + points.count(0.5))


def _p(row: Mapping[str, Any]) -> float:
    """The probability of the better text; a half for two equal ones."""
    p = 0.5 if row["p_a"] is None else float(row["p_a"])
    return p if row["better"] == "A" else 1 - p


def _point(p: float) -> float:
    return 0.5 if p == 0.5 else float(p > 0.5)


def _tie(each: Sequence[tuple[Mapping[str, Any], float]]) -> bool:
    """RewardBench 2's two conditions for ties, in probabilities."""
    leads = [p - 0.5 for row, p in each if row["stratum"] != "equal"]
    apart = [abs(p - 0.5) for row, p in each if row["stratum"] == "equal"]
    return min(leads) > 0 and max(apart, default=0.0) < min(leads)


def _rank(each: Sequence[tuple[Mapping[str, Any], float]]) -> float:
    """Spearman's correlation of the places with how likely each text is to be preferred to the others; 0 if the judge
    tells none apart."""
    from scipy.stats import spearmanr

    wins: dict[int, list[float]] = {}
    for row, p in each:
        wins.setdefault(row["place_better"], []).append(p)
        wins.setdefault(row["place_worse"], []).append(1 - p)
    places = sorted(wins)
    scores = [fmean(wins[i]) for i in places]
    return float(spearmanr([-i for i in places], scores).statistic) if len(set(scores)) > 1 else 0.0


def _chance(task: Task) -> float:
    """How often guessing gets the row right."""
    match task.kind:
        case "best":
            return 1 / task.texts
        case "ties":
            return 1 / math.comb(task.texts, 1 + max(m.places[0] for m in task.matches if m.stratum != "equal"))
        case _:
            return 0.5
