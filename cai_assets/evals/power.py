"""What a comparison could have found: the minimum detectable effect, and how many prompts a wanted one needs.

A verdict needs an interval that excludes zero (``statistics.told``). The intervals are as wide as Student's t, so a
true difference is found as often as the paired t test finds it; noncentral t gives the smallest one that is found with
probability POWER (Cohen 1988, *Statistical Power Analysis*, chapter 2; Miller 2024, *Adding Error Bars to Evals*,
section 5, for clusters and several samples). Nothing here depends on the difference that was seen: "observed power"
says no more than the interval does (Hoenig and Heisey 2001).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

from cai_assets.evals.statistics import FEW, NOT_SEEN, Estimate, Telling, expanded, proportion, sign_p, t_isf

POWER: Final = 0.8
MEANING: Final = (f"Detectable: the smallest true difference to which such a comparison gives a verdict in {POWER:.0%} "
                  "of trials.")
MOST = 10_000_000  # prompts, above which no number is looked for


def detectable(difference: Estimate, telling: Telling, *, tests: int = 1) -> float | None:
    """The size of a true difference that this comparison finds with probability POWER; None if nothing says how much
    the prompts differ.

    ``difference``: with an interval of ``telling.confidence``. Below ``telling.enough`` prompts nothing is ever found:
    then it is what so many of the same kind would find, at most. ``tests``: differences whose p values were adjusted
    for each other (Holm): the first must pass at an equal share of the level.
    """
    low, high, n = difference.low, difference.high, difference.n
    if n < 2 or low is None or high is None or not math.isfinite(high - low):
        return None
    half, tail = (high - low) / 2, (1 - telling.confidence) / 2
    largest = half / (proportion(0, n, telling.confidence).high or 1.0)
    if any(math.isclose(largest, bound) for bound in (0.5, 1.0)):  # all alike: what ``statistics`` then gives
        return largest * _share_unlike(max(n, telling.enough), telling.confidence, tests)
    if n >= telling.enough:
        return _noncentrality(n, telling.confidence, tests) * half / t_isf(tail, n - 1)
    # Few prompts hardly tell how they spread: their interval is read as one of many, which errs to the larger.
    error = half / _z(tail) * math.sqrt(n / telling.enough)
    return _noncentrality(telling.enough, telling.confidence, tests) * error


def detectable_by(n: int, spread: float, telling: Telling) -> float:
    """The size of a true difference that ``n`` prompts find with probability POWER. ``spread``: as below."""
    return _noncentrality(n, telling.confidence, 1) * spread / math.sqrt(n)


def prompts_needed(effect: float, spread: float, telling: Telling) -> int | None:
    """How many prompts find a true difference of ``effect`` with probability POWER; None above MOST.

    ``spread``: standard deviation, over prompts, of a prompt's difference, the mean over its samples.
    """
    low, high = max(2, telling.enough), max(2, telling.enough)
    while detectable_by(high, spread, telling) > effect:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable_by(middle, spread, telling) <= effect else (middle + 1, high)
    return low


def detectable_share(n: int, confidence: float, *, above: float = 0.5) -> float | None:
    """The smallest true share of ``n`` that Wilson's interval sees to be above ``above`` with probability POWER; None
    if none is seen."""
    from scipy.special import betaincinv

    low, high = 0, n + 1
    while low < high:  # the fewest successes whose interval is above
        middle = (low + high) // 2
        seen = n and middle <= n and (proportion(middle, n, confidence).low or 0.0) > above
        low, high = (low, middle) if seen or middle > n else (middle + 1, high)
    # P(at least k of n) = I_p(k, n - k + 1)
    return float(betaincinv(low, n - low + 1, POWER)) if 0 < low <= n else None


def would_pass(n: int, confidence: float, *, above: float = 0.5) -> str:
    """Beside a share that is not seen to be above a limit: which true one is."""
    share = detectable_share(n, confidence, above=above)
    return f" (of {n}, {share:.0%} would be seen to be above)" if share else f" (of {n}, no share is seen to be above)"


def detectable_sign(n: int, level: float) -> float | None:
    """The smallest true share of ``n`` prompts, one half where there is nothing, that the exact sign test finds at
    ``level`` with probability POWER; None if it finds none."""
    from scipy.special import betaincinv

    fewest = next((k for k in range(n // 2 + 1, n + 1) if sign_p(k, n - k) <= level), None)
    return None if fewest is None else float(betaincinv(fewest, n - fewest + 1, POWER))


def detectable_events(n: int) -> float:
    """The smallest true share of ``n`` that shows itself at least once with probability POWER."""
    return float(1 - (1 - POWER) ** (1 / max(1, n)))


def detectable_apart(a: Estimate, b: Estimate, telling: Telling) -> float | None:
    """The difference between two independent estimates at which their intervals do not meet with probability POWER."""
    halves = [(e.high - e.low) / 2 for e in (a, b) if e.low is not None and e.high is not None]
    if len(halves) < 2 or min(a.n, b.n) < 2:
        return None
    errors = [half / t_isf((1 - telling.confidence) / 2, e.n - 1) for half, e in zip(halves, (a, b), strict=True)]
    return sum(halves) + _z(1 - POWER) * math.hypot(*errors)


def beside(verdict: str, difference: Estimate, telling: Telling, *, tests: int = 1) -> str:
    """What belongs beside a verdict that claims nothing: 'detectable: 0.12'. Empty beside any other."""
    if verdict not in {FEW, NOT_SEEN}:
        return ""
    return in_words(detectable(difference, telling, tests=tests), difference.n, telling)


def in_words(size: float | None, n: int, telling: Telling) -> str:
    """'detectable: 0.12' over ``n``; where these are too few, with how many."""
    if size is None:
        return f"{telling.enough} needed" if n < telling.enough else ""
    return f"detectable{f' with {telling.enough}' if n < telling.enough else ''}: {size:.2g}"


def with_detectable(verdict: str, difference: Estimate, telling: Telling, *, tests: int = 1) -> str:
    """A verdict with what belongs beside it: 'no difference seen (detectable: 0.12)'."""
    more = beside(verdict, difference, telling, tests=tests)
    return f"{verdict} ({more})" if more else verdict


def _z(above: float) -> float:
    from scipy.special import ndtri

    return float(-ndtri(above))


@cache
def _share_unlike(n: int, confidence: float, tests: int) -> float:
    """The smallest true share of prompts with an equally large difference, the others having none, that the bootstrap
    over ``n`` finds with probability POWER: hardly a resample may be without any."""
    from scipy.special import betaincinv

    tail = (1 - expanded(1 - (1 - confidence) / tests, n)) / 2
    fewest = next(k for k in range(1, n + 1) if (1 - k / n) ** n < tail)
    return float(betaincinv(fewest, n - fewest + 1, POWER))


@cache
def _noncentrality(n: int, confidence: float, tests: int) -> float:
    """How many standard errors make a true difference that the t test over ``n`` finds with probability POWER."""
    from scipy.special import nctdtrinc

    needed = t_isf((1 - confidence) / 2 / tests, n - 1)
    return float(nctdtrinc(n - 1, 1 - POWER, needed))
