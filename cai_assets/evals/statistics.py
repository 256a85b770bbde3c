"""Estimates, each with a count and an interval.

Every function that estimates returns an Estimate. With no data the value is None: a rate over nothing is unknown, not
zero. Intervals have a fixed seed where they resample, so that the same data give the same numbers. Answers to one
prompt are not independent of each other: they are a cluster, and n counts clusters (Miller 2024, *Adding
Error Bars to Evals*).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from cai_assets.settings.method import Evaluation

RESAMPLES = 9_999
BATCH = 500  # resamples held in memory at once
MANY = 3000  # values above which resampling is slow and the central limit theorem gives the same interval
FEW: Final = "too few to tell"
NOT_SEEN: Final = "no difference seen"
Direction = Literal["higher", "lower", ""]  # which one is better; "": neither
Verdict = Literal["better", "worse", "higher", "lower", "no difference seen", "too few to tell"]


class Telling(NamedTuple):
    """What it takes to claim a difference: an interval of this confidence, over at least ``enough`` clusters."""

    confidence: float
    enough: int

    @classmethod
    def by(cls, evaluation: Evaluation) -> Telling:
        """As settings say."""
        return cls(evaluation.confidence, evaluation.enough)


@dataclass(frozen=True)
class Estimate:
    """A value from ``n`` observations, with the ends of its interval; None where it is unknown."""

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
    from scipy.special import ndtri

    if not 0 <= successes <= n:
        raise ValueError(f"proportion: {successes} successes of {n} trials is impossible")
    if n == 0:
        return Estimate(None, 0)
    p, z = successes / n, float(ndtri(0.5 + 0.5 * confidence))
    scale = 2 * (n + z**2)
    middle, half = (2 * n * p + z**2) / scale, z / scale * math.sqrt(4 * n * p * (1 - p) + z**2)
    return Estimate(p, n, middle - half if successes else 0.0, middle + half if successes < n else 1.0)


def t_isf(above: float, df: int) -> float:
    """What Student's t exceeds with this probability. Of scipy.special: importing scipy.stats takes a second."""
    from scipy.special import stdtrit

    return float(-stdtrit(df, above))


def mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """A mean, with a percentile bootstrap interval (Efron 1979); fewer than two values give no interval.

    The percentiles are those that make up for the bootstrap's narrowness at small n (Hesterberg 2015, *What Teachers
    Should Know About the Bootstrap*: the expanded percentile interval). Of more than MANY values it is the
    normal interval. Values must be finite and independent of each other: one per prompt.
    """
    if not all(map(math.isfinite, values)):
        raise ValueError("mean: the values hold a NaN or an infinity; leave failed rows out and count them")
    if not values:
        return Estimate(None, 0)
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return Estimate(float(data[0]), 1)
    if len(data) > MANY:
        from scipy.special import ndtri

        half = float(-ndtri((1 - confidence) / 2) * data.std(ddof=1)) / math.sqrt(len(data))
        return Estimate(float(data.mean()), len(data), float(data.mean()) - half, float(data.mean()) + half)
    return Estimate(float(data.mean()), len(data), *_resampled(tuple(data.tolist()), confidence))


@lru_cache(maxsize=256)  # tables of several policies and suites ask for many of the same
def _resampled(values: tuple[float, ...], confidence: float) -> tuple[float, float]:
    """The percentile interval of a mean of at least two values."""
    from scipy.stats import bootstrap

    ci = bootstrap((np.asarray(values),), np.mean, confidence_level=expanded(confidence, len(values)),
                   n_resamples=RESAMPLES, batch=BATCH, method="percentile",
                   rng=np.random.default_rng(0)).confidence_interval
    return float(ci.low), float(ci.high)


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of ``a[i] - b[i]``, resampled by pair, so that what the pairs share cancels out."""
    if len(a) != len(b):
        raise ValueError(f"paired_difference: {len(a)} values against {len(b)}; give both in the order of the prompts")
    return mean([x - y for x, y in zip(a, b, strict=True)], confidence)


def win_rate(outcomes: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Wins plus half the ties, over all comparisons; ``outcomes`` has 1, 0.5 or 0 for each prompt.

    The interval is the bootstrap over prompts. Outcomes that are all equal leave it nothing to resample, and it
    would claim certainty: the interval then allows for as many unseen outcomes as Wilson's bound on 0 of n does.
    """
    if not set(outcomes) <= {0, 0.5, 1}:
        raise ValueError(f"win_rate: outcomes are 1, 0.5 or 0, not {sorted(set(outcomes) - {0, 0.5, 1})}")
    return _allowing(list(outcomes), confidence, (0.0, 1.0))


def clustered_mean(
    values: Sequence[float], clusters: Sequence[str], confidence: float = 0.95, *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Estimate:
    """The mean of the clusters' means, with equal weight per cluster; ``n`` counts clusters, not values.

    ``clusters``: for each value the prompt (or request) that it belongs to. A rate, of values 0 and 1, has the score
    interval with the number of observations that its variance between clusters is worth (Dean and Pagano 2015; Korn
    and Graubard 1998 for the small-sample term); everything else the bootstrap over clusters of ``mean``. Clusters
    that are all equal leave it nothing to resample; the interval then allows for unseen ones, within ``bounds``
    (None: the quantity has none, and the interval is a point).
    """
    means = list(_by_cluster(values, clusters).values())
    if set(values) <= {0, 1} and means:
        return _rate(means, len(values), confidence)
    return _allowing(means, confidence, bounds)


def clustered_difference(
    a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]], confidence: float = 0.95, *,
    bounds: tuple[float, float] | None = (-1.0, 1.0),
) -> Estimate:
    """The mean over shared clusters of mean(a) - mean(b), resampled by cluster; ``n`` counts shared clusters.

    Clusters that one side lacks, or has no value of, are left out. Differences that are all equal are treated as in
    ``clustered_mean``, with the largest possible differences as ``bounds``.
    """
    shared = sorted(k for k in a.keys() & b.keys() if len(a[k]) and len(b[k]))
    return _allowing([float(np.mean(a[k]) - np.mean(b[k])) for k in shared], confidence, bounds)


def told(difference: Estimate, *, enough: int, better: Direction) -> Verdict:
    """The verdict that an interval of a difference supports. ``enough``: with fewer clusters there is none.

    Where neither direction is ``better``, the word is only "higher" or "lower". "no difference seen" is not "no
    difference": the interval's ends say how large one may still be.
    """
    low, high = difference.low, difference.high
    if difference.n < enough or low is None or high is None:
        return FEW
    if low <= 0 <= high:
        return NOT_SEEN
    moved: Literal["higher", "lower"] = "higher" if low > 0 else "lower"
    return moved if not better else "better" if moved == better else "worse"


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of "the differences are as likely to fall either way": signs are flipped (Fisher 1935).

    Exact where all flips can be tried, else over RESAMPLES random ones. One difference for each independent prompt.
    No difference other than zero gives 1.
    """
    from scipy.stats import permutation_test

    data = np.asarray([d for d in differences if d != 0], dtype=float)
    if not len(data):
        return 1.0
    # scipy flips the signs of a lone sample; of one value it refuses, and its p value is 1 of two equal flips
    return 1.0 if len(data) == 1 else float(permutation_test(
        (data,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=RESAMPLES, batch=BATCH, rng=np.random.default_rng(0)).pvalue)


def sign_p(higher: int, lower: int) -> float:
    """Two-sided p-value of "each is as likely to be the higher one": the exact sign test (Arbuthnott 1710; Dixon and
    Mood 1946). Ties are left out of both counts; without any count it is 1."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(higher, lower), higher + lower, 0.5))) if higher + lower else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple comparisons, in the order given (Holm 1979): family-wise error, any dependence."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _by_cluster(values: Sequence[float], clusters: Sequence[str]) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        found[cluster].append(float(value))
    return {cluster: float(np.mean(of)) for cluster, of in sorted(found.items())}


def _allowing(values: list[float], confidence: float, bounds: tuple[float, float] | None) -> Estimate:
    # Resampling equal values would claim certainty: allow for as many unseen ones as Wilson's bound on 0 of n.
    if len(set(values)) != 1 or bounds is None or not bounds[0] <= values[0] <= bounds[1]:
        return mean(values, confidence)
    value, n = values[0], len(values)
    unseen = proportion(0, n, confidence).high or 0.0
    return Estimate(value, n, value + unseen * (bounds[0] - value), value + unseen * (bounds[1] - value))


def _rate(means: Sequence[float], values: int, confidence: float) -> Estimate:
    from scipy.special import ndtri

    n, p = len(means), float(np.mean(means))
    if values == n:
        return proportion(round(p * n), n, confidence)
    spread = float(np.var(means, ddof=1)) / n if n > 1 else 0.0
    worth = min(values, p * (1 - p) / spread) if spread else n  # all equal: each cluster may be one observation
    z, small = -ndtri((1 - confidence) / 2), t_isf((1 - confidence) / 2, max(1, n - 1))
    worth = max(1.0, worth * (z / small) ** 2)
    middle, half = p + z * z / (2 * worth), z * math.sqrt(p * (1 - p) / worth + (z / (2 * worth)) ** 2)
    scale = 1 + z * z / worth
    return Estimate(p, n, max(0.0, float(middle - half) / scale), min(1.0, float(middle + half) / scale))


def expanded(confidence: float, n: int) -> float:
    """The confidence at which percentiles of a bootstrap over ``n`` are as wide as the t interval is."""
    from scipy.special import ndtr

    return float(1 - 2 * ndtr(-t_isf((1 - confidence) / 2, n - 1) * math.sqrt(n / (n - 1))))
