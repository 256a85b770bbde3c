"""How good a reward model is, on held-out pairs.

Guarantees: it and its baselines (``reward_baselines``) are measured on exactly the same held-out pairs; each rate has
a count and an interval; an undecided guess counts as half right; a label of exactly one half counts as neither right
nor wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cai_assets.evals.reward_baselines import BASELINES, Pair, guesses
from cai_assets.evals.statistics import Estimate, paired_difference, proportion, win_rate
from cai_assets.store.json_text import parse_json

BINS = 5


@dataclass(frozen=True)
class Result:
    """A held-out pair. ``index``: its position among the rows of the training data."""

    index: int
    reward_chosen: float
    reward_rejected: float
    p_chosen: float

    @property
    def margin(self) -> float:
        return self.reward_chosen - self.reward_rejected


def measure(rows: Sequence[Pair], results: Sequence[Result]) -> dict[str, Any]:
    """All figures under stable, flat names, and the reliability table under ``reliability``.

    ``rows``: all of the training data, including rows with ``held_out`` set. An interval is in ``<name>_low`` and
    ``<name>_high``; ``over_<baseline>`` is the accuracy minus the baseline's, paired.
    """
    decided = [r for r in results if r.p_chosen != 0.5]
    labels = [r.p_chosen for r in decided]
    right = outcomes([r.margin for r in decided], labels)
    pairs = [rows[r.index] for r in decided]
    guessed = guesses([row for row in rows if not row["held_out"]], pairs)
    figures = {"n": len(decided), **_named("accuracy", accuracy(right))}
    figures["mean_margin"] = sum(r.margin for r in results) / len(results) if results else None
    for name in BASELINES:
        other = outcomes(guessed[name], labels)
        figures |= _named(f"{name}_accuracy", accuracy(other)) | _named(f"over_{name}", paired_difference(right, other))
        figures[f"{name}_undecided"] = other.count(0.5)
    return figures | _named("length_correlation", length_correlation(rows, results)) | calibration(results)


def outcomes(margins: Sequence[float], labels: Sequence[float]) -> list[float]:
    """1 if the sign of the margin matches the label's side, 0 if not, one half if the margin is zero."""
    return [0.5 if m == 0 else float((m > 0) == (p > 0.5)) for m, p in zip(margins, labels, strict=True)]


def accuracy(right: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The share of right guesses, with Wilson's interval, or the bootstrap's if some are half right."""
    if 0.5 in right:
        return win_rate(right, confidence)
    return proportion(round(sum(right)), len(right), confidence)


def accuracy_by(results: Sequence[Result], groups: Sequence[str | None]) -> dict[str, Estimate]:
    """The accuracy in each group. ``groups``: for every row of the training data; None belongs to no group."""
    parts: dict[str, list[Result]] = {}
    for r in results:
        group = groups[r.index]
        if group is not None and r.p_chosen != 0.5:
            parts.setdefault(group, []).append(r)
    return {group: accuracy(outcomes([r.margin for r in part], [r.p_chosen for r in part]))
            for group, part in sorted(parts.items())}


def calibration(results: Sequence[Result]) -> dict[str, Any]:
    """Expected calibration error (Guo et al. 2017, section 2) of sigmoid(margin) against the label's probability.

    Each pair is seen from the response that the model prefers, because the chosen one was picked by its label. Bins
    are of equal width from 0.5 to 1. A margin setting moves the optimum away from the label, and so the error.
    """
    bins: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for r in results:
        confidence = 1 / (1 + math.exp(-min(abs(r.margin), 700)))
        label = r.p_chosen if r.margin >= 0 else 1 - r.p_chosen
        bins[min(int((confidence - 0.5) * 2 * BINS), BINS - 1)].append((confidence, label))
    table = [{"from": round(0.5 + i / 2 / BINS, 3), "n": len(bin), "confidence": _mean([c for c, _ in bin]),
              "label": _mean([p for _, p in bin])} for i, bin in enumerate(bins) if bin]
    gaps = [row["n"] * abs(row["confidence"] - row["label"]) for row in table]
    return {"calibration_error": sum(gaps) / len(results) if results else None, "reliability": table}


def length_correlation(rows: Sequence[Pair], results: Sequence[Result]) -> Estimate:
    """Pearson's r of rewards and lengths in characters over all held-out responses; unknown if either is constant.

    The interval is Fisher's for one observation per pair, because the two responses of a pair are not independent.
    """
    lengths = [float(len(rows[r.index][side])) for r in results for side in ("chosen", "rejected")]
    rewards = [x for r in results for x in (r.reward_chosen, r.reward_rejected)]
    r = correlation(lengths, rewards)
    if r is None or len(results) < 4 or abs(r) >= 1:
        return Estimate(r, len(results))
    z, half = math.atanh(r), 1.96 / math.sqrt(len(results) - 3)
    return Estimate(r, len(results), math.tanh(z - half), math.tanh(z + half))


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's r, or None where it is undefined (fewer than three points, or a constant)."""
    import numpy as np

    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _named(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def parse(lines: Sequence[str]) -> list[Result]:
    """Results from the lines of ``held_out.jsonl``."""
    return [Result(**parse_json(line)) for line in lines if line]
