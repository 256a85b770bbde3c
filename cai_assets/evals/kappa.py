"""Agreement beyond chance (Cohen 1960), with its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cai_assets.evals.statistics import Estimate, t_isf


def cohens_kappa(one: Sequence[str], other: Sequence[str], confidence: float = 0.95) -> Estimate:
    """Agreement of two raters on the same items: 1 is full agreement, 0 what chance alone would give.

    Unknown if both always give the same single category: then chance explains everything. The interval is the
    jackknife's (Efron and Stein 1981), for independent items.
    """
    pairs = Counter(zip(one, other, strict=True))
    n, value = pairs.total(), _kappa(pairs)
    if value is None or n < 2:
        return Estimate(value, n)
    # leaving out either of two equal pairs gives the same
    without = [(times, _kappa(pairs - Counter([pair]))) for pair, times in pairs.items()]
    known = [(times, k) for times, k in without if k is not None]
    if len(known) < len(without):
        return Estimate(value, n)
    middle = sum(times * k for times, k in known) / n
    error = math.sqrt((n - 1) / n * sum(times * (k - middle) ** 2 for times, k in known))
    margin = error * t_isf((1 - confidence) / 2, n - 1)
    return Estimate(value, n, max(-1.0, value - margin), min(1.0, value + margin))


def _kappa(pairs: Counter[tuple[str, str]]) -> float | None:
    """As scikit-learn's cohen_kappa_score has it, to the last bit; importing that takes longer than a plan."""
    categories = sorted({x for pair in pairs for x in pair})
    if len(categories) < 2:
        return None
    confusion = np.array([[pairs[one, other] for other in categories] for one in categories])
    expected = np.outer(confusion.sum(axis=0), confusion.sum(axis=1)) / confusion.sum()
    apart = 1 - np.eye(len(categories), dtype=int)
    return float(1 - (apart * confusion).sum() / (apart * expected).sum())
