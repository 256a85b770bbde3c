"""Estimates with a count and an interval, and nothing without.

Every function returns an Estimate. With no data the value is None: a rate over nothing is unknown, not zero.
Intervals come from scipy, with a fixed seed where they resample, so that the same data give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 9_999
BATCH = 500  # resamples held in memory at once


@dataclass(frozen=True)
class Estimate:
    """A value from ``n`` observations, with the ends of its interval; None where the data cannot tell."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return f"unknown (n = {self.n})"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{interval} (n = {self.n})"


def proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share of ``n`` independent trials, with the score interval of Wilson (1927).

    It keeps near its nominal coverage at small n and near 0 and 1 (Brown, Cai and DasGupta 2001).
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n:
        raise ValueError(f"proportion: {successes} successes of {n} trials is impossible")
    if n == 0:
        return Estimate(None, 0)
    ci = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Estimate(successes / n, n, float(ci.low), float(ci.high))


def mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """A mean, with a percentile bootstrap interval (Efron 1979); fewer than two values give no interval.

    Values must be finite and independent of each other: one per prompt.
    """
    from scipy.stats import bootstrap

    if not all(map(math.isfinite, values)):
        raise ValueError("mean: the values hold a NaN or an infinity; leave failed rows out and count them")
    if not values:
        return Estimate(None, 0)
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return Estimate(float(data[0]), 1)
    ci = bootstrap((data,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES, batch=BATCH,
                   method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return Estimate(float(data.mean()), len(data), float(ci.low), float(ci.high))


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of ``a[i] - b[i]``, resampled by pair, so that what the pairs share cancels out."""
    if len(a) != len(b):
        raise ValueError(f"paired_difference: {len(a)} values against {len(b)}; give both in the order of the prompts")
    return mean([x - y for x, y in zip(a, b, strict=True)], confidence)


def win_rate(outcomes: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Wins plus half the ties, over all comparisons; ``outcomes`` has 1, 0.5 or 0 for each prompt.

    The interval is the bootstrap over prompts. Outcomes that are all alike leave it nothing to resample, and it
    would claim certainty: the interval then allows for as many unseen outcomes as Wilson's bound on 0 of n does.
    """
    if not set(outcomes) <= {0, 0.5, 1}:
        raise ValueError(f"win_rate: outcomes are 1, 0.5 or 0, not {sorted(set(outcomes) - {0, 0.5, 1})}")
    if len(set(outcomes)) != 1:
        return mean(outcomes, confidence)
    value, unseen = float(outcomes[0]), proportion(0, len(outcomes), confidence).high or 0.0
    return Estimate(value, len(outcomes), value * (1 - unseen), value + (1 - value) * unseen)
