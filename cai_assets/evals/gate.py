"""The judge gate: how well the labeler agrees with people, measured before its labels train anything.

The labeler answers a file of human comparisons exactly as it answers response pairs: same principles, same settings,
both orders. Guarantees: which response is shown first is decided by a hash, so neither position is favored by design; a
comparison that could not be graded is counted and never scored; accuracy measures what the reward model learns from,
the mean over both orders.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from cai_assets.constitution.model import Constitution
from cai_assets.evals.benchmarks import BenchmarkResult
from cai_assets.evals.benchmarks import faults as benchmark_faults
from cai_assets.evals.kappa import cohens_kappa
from cai_assets.evals.power import would_pass
from cai_assets.evals.statistics import Estimate, mean, proportion
from cai_assets.settings import Gate, Settings
from cai_assets.steps.comparison_files import Comparisons, read_comparisons
from cai_assets.steps.complete import Completer
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import SCHEMA
from cai_assets.steps.reasons import commonest
from cai_assets.store.canonical import tagged_hash

BUNDLED = Path(__file__).parents[1] / "data" / "judge_pairs.jsonl"
BINS = 5
UNGRADED_AT_MOST = 0.1


class Bin(BaseModel):
    """Comparisons whose confidence, the probability of the chosen side, is in [low, high); the last bin includes 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class GateResult(BaseModel):
    """A labeler against people. All shares are of graded comparisons except ``ungraded``, which is of all.

    ``accuracy_debiased``: the side with the higher mean probability over both orders is the one that people chose; an
    exact half counts half. ``accuracy_first``, ``accuracy_second``: of each order alone, response A shown first and
    second. ``accuracy_agreed``: of the comparisons on which both orders agree. ``consistency``: the share of those.
    ``picks_first``: share of questions answered with the response shown first. ``calibration_error``: expected
    calibration error over ``reliability`` (Guo et al. 2017, section 2), biased upward where bins are small. ``kappa``:
    Cohen 1960, over A, B and tie, so that a contradiction is a disagreement, with its interval. ``replies_read``: of a
    labeler whose answers are sampled, the share of replies that named one. ``benchmarks``: of ``gate.benchmarks``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    unusable: int = 0
    left_out: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    accuracy_debiased: Estimate
    accuracy_first: Estimate
    accuracy_second: Estimate
    accuracy_agreed: Estimate
    consistency: Estimate
    picks_first: Estimate
    ungraded: Estimate
    calibration_error: float | None
    kappa: float | None
    kappa_low: float | None = None
    kappa_high: float | None = None
    reliability: tuple[Bin, ...]
    replies_read: Estimate | None = None
    errors: dict[str, int] = {}
    benchmarks: tuple[BenchmarkResult, ...] = ()


def measure_labeller(
    settings: Settings, constitution: Constitution, *, complete: Completer
) -> tuple[GateResult, pl.DataFrame]:
    """Label the file of ``settings.gate`` and compare; return the labeled rows too. Raise DataError if it cannot
    be read."""
    read, labeled = label_people(settings, constitution, complete=complete)
    return measure(labeled, read=read, confidence=settings.evaluation.confidence), labeled


def label_people(
    settings: Settings, constitution: Constitution, *, complete: Completer
) -> tuple[Comparisons, pl.DataFrame]:
    """What was read, and the comparisons labeled, with ``human`` ('A' or 'B')."""
    gate = settings.gate
    read = read_comparisons(gate.path, limit=gate.pairs, columns=gate.columns, soft=False) if gate.path else (
        read_comparisons(BUNDLED, limit=gate.pairs))
    pairs = human_pairs(read.frame)
    labeled = label_pairs(pairs.drop("human"), constitution, complete=complete, settings=settings.labels)
    return read, labeled.join(pairs.select("pair_id", "human"), on="pair_id")


def human_pairs(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Response pairs of human comparisons, with ``human``: the letter of the response that people chose."""
    rows = []
    for row in comparisons.iter_rows(named=True):
        human = "AB"[int(tagged_hash("gate-side", row["pair_id"])[-1], 16) % 2]
        a, b = (row["chosen"], row["rejected"]) if human == "A" else (row["rejected"], row["chosen"])
        rows.append({"pair_id": row["pair_id"], "prompt_id": row["prompt_id"], "kind": "gate", "category": "gate",
                     "messages": row["messages"], "response_a": a, "response_b": b, "identical": False, "human": human})
    return pl.DataFrame(rows, schema={**SCHEMA, "human": pl.String})


def measure(labeled: pl.DataFrame, *, read: Comparisons | None = None, confidence: float = 0.95) -> GateResult:
    """``labeled``, ``read``: of ``label_people``."""
    left_out = read.left_out if read else {}
    rows = labeled.to_dicts()
    graded = [r for r in rows if r["p_a"] is not None]
    agreed = [r for r in graded if r["label"] in ("A", "B")]
    shares = {name: share_of([points(r, column) for r in of], confidence) for name, column, of in (
        ("accuracy_debiased", "p_a", graded), ("accuracy_first", "p_a_first", graded),
        ("accuracy_second", "p_a_second", graded), ("accuracy_agreed", "p_a", agreed))}
    reliability = _reliability(graded)
    kappa = cohens_kappa([r["label"] for r in graded], [r["human"] for r in graded], confidence)
    return GateResult(
        n=len(rows), unusable=sum(left_out.values()), left_out=left_out, notes=read.notes if read else (), **shares,
        consistency=proportion(len(agreed), len(graded), confidence),
        picks_first=mean([(_above(r["p_a_first"]) + 1 - _above(r["p_a_second"])) / 2 for r in graded], confidence),
        ungraded=proportion(len(rows) - len(graded), len(rows), confidence),
        calibration_error=_calibration_error(reliability), kappa=kappa.value, kappa_low=kappa.low,
        kappa_high=kappa.high, reliability=reliability, replies_read=_replies_read(labeled, confidence),
        errors=dict(Counter(str(r["error"]) for r in rows if r["p_a"] is None).most_common(5)))


def verdict(result: GateResult, gate: Gate, confidence: float = 0.95) -> tuple[bool, str]:
    """Whether the labeler may train a reward model, and the reason, with every number behind it."""
    if result.accuracy_debiased.value is None:
        why = next(iter(result.errors), None) or nothing_read(result)
        return False, f"the labeler graded 0 of {result.n} human comparisons: {why}"
    accuracy, consistency = result.accuracy_debiased, result.consistency
    faults = []
    if (result.ungraded.value or 0.0) > UNGRADED_AT_MOST:
        faults.append(f"{result.n - accuracy.n} of {result.n} comparisons are ungraded, above {UNGRADED_AT_MOST:.0%}: "
                      f"{next(iter(result.errors))}")
    if (accuracy.low or 0.0) <= gate.accuracy:
        faults.append(f"its agreement with people is {accuracy}, and the interval's lower end must lie above "
                      f"gate.accuracy={gate.accuracy:g}"
                      + would_pass(accuracy.n, confidence, above=gate.accuracy))
    if (consistency.value or 0.0) < gate.consistency:
        faults.append(f"both orders agree on a share of {consistency}, below gate.consistency={gate.consistency:g}: it "
                      "prefers a position, not a response")
    faults += benchmark_faults(result.benchmarks, gate, confidence)
    if faults:
        return False, "the labeler does not agree with people well enough: " + "; ".join(faults)
    sampled = f"; its answers are sampled, and of the replies a share of {read} named one" if (
        read := result.replies_read) else ""
    passed = f"; it passes {', '.join(b.name for b in result.benchmarks)}" if result.benchmarks else ""
    return True, f"the labeler agrees with people: {accuracy}; both orders agree: {consistency}{sampled}{passed}"


def nothing_read(result: GateResult) -> str:
    """Why there is nothing to grade."""
    if not result.left_out:
        return "; ".join(["the file has no comparisons", *result.notes])
    return f"none of the {result.unusable} rows of the file is a comparison: {commonest(result.left_out)}"


def describe(result: GateResult) -> dict[str, float]:
    """The known numbers by name."""
    out: dict[str, float] = {"n": result.n, "unusable": result.unusable}
    for name, value in result:
        number = value.value if isinstance(value, Estimate) else value
        if isinstance(number, float):
            out[name] = round(number, 4)
    return out


def _replies_read(labeled: pl.DataFrame, confidence: float) -> Estimate | None:
    if "replies" not in labeled.columns:
        return None
    return proportion(int(labeled["replies_read"].sum()), int(labeled["replies"].sum()), confidence)


def _above(p: float) -> float:
    return 0.5 if p == 0.5 else float(p > 0.5)


def points(row: dict[str, Any], column: str = "p_a") -> float:
    """1 if the labeler chose what people chose, 0.5 if it chose neither, else 0."""
    return _above(row[column]) if row["human"] == "A" else 1 - _above(row[column])


def share_of(won: Sequence[float], confidence: float = 0.95) -> Estimate:
    """A share whose half points widen the interval: its ends assume they are all lost or all won."""
    total, n = sum(won), len(won)
    low, high = (proportion(end, n, confidence) for end in (math.floor(total), math.ceil(total)))
    return Estimate(total / n if n else None, n, low.low, high.high)


def _reliability(graded: Sequence[dict[str, Any]]) -> tuple[Bin, ...]:
    width, bins = 0.5 / BINS, []
    places = [min(BINS - 1, int((max(r["p_a"], 1 - r["p_a"]) - 0.5) / width)) for r in graded]
    for i in range(BINS):
        here = [r for r, place in zip(graded, places, strict=True) if place == i]
        confidence = [max(r["p_a"], 1 - r["p_a"]) for r in here]
        won = [points(r) for r in here]
        bins.append(Bin(low=0.5 + i * width, high=0.5 + (i + 1) * width, n=len(here),
                        confidence=sum(confidence) / len(here) if here else None,
                        accuracy=sum(won) / len(here) if here else None))
    return tuple(bins)


def _calibration_error(bins: Sequence[Bin]) -> float | None:
    n = sum(b.n for b in bins)
    gaps = [b.n * abs(b.confidence - b.accuracy) for b in bins if b.confidence is not None and b.accuracy is not None]
    return sum(gaps) / n if n else None
