"""Planted truth: a difference of the minimum detectable size, and one that a plan was made for, is found by the verdict
itself in about 80 % of trials."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from cai_assets.evals.power import (
    POWER,
    beside,
    detectable,
    detectable_apart,
    detectable_events,
    detectable_share,
    prompts_needed,
    with_detectable,
)
from cai_assets.evals.statistics import Estimate, Telling, clustered_difference, paired_p, proportion, told
from cai_assets.plan.power import spread_of

TELLING = Telling(0.95, 20)
TRIALS = 60
Values = dict[str, list[float]]


def noisy(rng: np.random.Generator, n: int, shift: float = 0.0, samples: int = 2) -> tuple[Values, Values]:
    """Two policies on the same prompts: what a prompt gives to both, what it gives to one, and each sample's own."""
    def side(own: np.ndarray, by: float) -> Values:
        values = by + common[:, None] + own[:, None] + rng.normal(0, 0.2, (n, samples))
        return {str(i): row.tolist() for i, row in enumerate(values)}

    common = rng.normal(0, 1, n)
    return side(rng.normal(0, 0.25, n), shift), side(np.zeros(n), 0.0)


def rare(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[Values, Values]:
    """Two policies that do the same but where the first one does what neither did."""
    return ({str(i): [float(x)] for i, x in enumerate(rng.random(n) < shift)}, {str(i): [0.0] for i in range(n)})


def difference(sides: tuple[Values, Values]) -> Estimate:
    return clustered_difference(*sides, TELLING.confidence, bounds=(-1.0, 1.0))


def found(draw: Callable[..., tuple[Values, Values]], n: int, effect: float) -> Estimate:
    """The share of trials in which the verdict is the planted one, with its interval of 99.9 %."""
    seen = sum(told(difference(draw(np.random.default_rng([7, i]), n, effect)), enough=20, better="higher") == "better"
               for i in range(TRIALS))
    return proportion(seen, TRIALS, 0.999)


@pytest.mark.parametrize("draw", [noisy, rare])
def test_the_minimum_detectable_effect_is_found_in_about_80_percent(draw: Callable[..., tuple[Values, Values]]) -> None:
    sizes = [detectable(difference(draw(np.random.default_rng(i), 40)), TELLING) for i in range(8)]
    share = found(draw, 40, float(np.mean([size for size in sizes if size])))
    assert share.low is not None
    assert share.high is not None
    assert share.low < POWER < share.high
    assert share.low > 0.5


def test_so_many_prompts_as_a_plan_says_find_the_effect() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = noisy(rng, 400, samples=3)
    spread = spread_of([[x - y for x, y in zip(ours[i], theirs[i], strict=True)] for i in ours])
    assert spread is not None
    assert spread.between == pytest.approx(0.25**2, rel=0.3)
    assert spread.within == pytest.approx(2 * 0.2**2, rel=0.3)
    needed = prompts_needed(0.12, spread.at(2), TELLING)
    assert needed is not None
    share = found(noisy, needed, 0.12)
    assert share.low is not None
    assert share.high is not None
    assert share.low < POWER < share.high
    assert prompts_needed(0.12, spread.at(1), TELLING) > needed > prompts_needed(0.12, spread.at(9), TELLING)
    assert prompts_needed(0.9, 0.1, TELLING) == 20  # with fewer there is no verdict
    assert prompts_needed(1e-9, 1.0, TELLING) is None


def test_below_enough_it_is_what_enough_prompts_would_find() -> None:
    few, enough = (np.mean([detectable(difference(noisy(np.random.default_rng(i), n)), TELLING) for i in range(8)])
                   for n in (10, 20))
    assert few == pytest.approx(enough, rel=0.25)
    assert beside("too few to tell", Estimate(0.0, 10, -0.1, 0.1), TELLING).startswith("detectable with 20: ")
    assert with_detectable("too few to tell", Estimate(None, 0), TELLING) == "too few to tell (20 needed)"
    assert beside("better", Estimate(0.2, 40, 0.1, 0.3), TELLING) == ""
    assert detectable(Estimate(1.0, 40, 0.1, math.inf), TELLING) is None


def test_several_tests_can_find_less() -> None:
    """By Holm the first of many passes at an equal share of the level, which is what the verdict asks of it."""
    e = difference(noisy(np.random.default_rng(5), 40))
    one, ten = (detectable(e, TELLING, tests=tests) for tests in (1, 10))
    assert one is not None
    assert ten is not None
    seen = sum(paired_p([x[0] + x[1] - y[0] - y[1] for x, y in zip(*(s.values() for s in noisy(
        np.random.default_rng([9, i]), 40, ten)), strict=True)]) <= 0.05 / 10 for i in range(40))
    assert one < ten
    assert 0.55 < seen / 40 < 0.97


@pytest.mark.parametrize(("n", "above"), [(20, 0.5), (200, 0.5), (60, 0.25), (75, 0.6)])
def test_a_share_is_seen_to_be_above_a_limit_in_80_percent(n: int, above: float) -> None:
    share = detectable_share(n, 0.95, above=above)
    assert share is not None
    fewest = next(k for k in range(n + 1) if (proportion(k, n).low or 0.0) > above)
    assert binom.sf(fewest - 1, n, share) == pytest.approx(POWER)
    assert detectable_share(2, 0.95) is None
    assert binom.sf(0, n, detectable_events(n)) == pytest.approx(POWER)


def test_two_shares_lie_apart_only_if_their_intervals_do() -> None:
    rng, (a, b) = np.random.default_rng(1), (proportion(20, 40), proportion(20, 40))
    size = detectable_apart(a, b, TELLING)
    assert size is not None
    low, high = rng.binomial(40, 0.5 - size / 2, 400), rng.binomial(40, 0.5 + size / 2, 400)
    seen = np.mean([(proportion(int(k), 40).low or 0) > (proportion(int(j), 40).high or 1)
                    for j, k in zip(low, high, strict=True)])
    assert 0.7 < seen < 0.95
