"""Estimates: counts, intervals, and what they say when the data say nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.evals.statistics import Estimate, mean, paired_difference, proportion, t_isf, win_rate

OUTCOMES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30)


def wilson(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The formula of Wilson 1927, written out."""
    p, d = k / n, 1 + z * z / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / d, (middle + half) / d


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_proportion_is_wilsons_formula(kn):
    k, n = kn
    e = proportion(k, n)
    assert e.value == k / n
    assert e.n == n
    low, high = wilson(k, n)
    assert e.low == pytest.approx(max(low, 0), abs=1e-9)
    assert e.high == pytest.approx(min(high, 1), abs=1e-9)
    assert 0 <= e.low <= e.value + 1e-12
    assert e.value - 1e-12 <= e.high <= 1


@pytest.mark.parametrize("truth", [0.03, 0.2, 0.5, 0.9])
def test_wilson_covers_the_truth_about_as_often_as_it_says(truth):
    n = 60
    intervals = [proportion(k, n) for k in range(n + 1)]
    draws = np.random.default_rng(7).binomial(n, truth, size=20_000)
    covered = np.mean([intervals[k].low <= truth <= intervals[k].high for k in draws])
    assert 0.92 <= covered <= 0.99


def test_more_confidence_gives_a_wider_interval():
    narrow, wide = proportion(4, 10, 0.8), proportion(4, 10, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 4)])
def test_an_impossible_count_is_an_error(k, n):
    with pytest.raises(ValueError, match="impossible"):
        proportion(k, n)


def test_nothing_gives_no_value_rather_than_zero():
    assert proportion(0, 0) == mean([]) == win_rate([]) == paired_difference([], []) == Estimate(None, 0)
    assert str(Estimate(None, 0)) == "unknown (n = 0)"


def test_one_value_has_no_interval():
    assert mean([3.0]) == Estimate(3.0, 1)
    assert str(mean([3.0])) == "3 (n = 1)"


@settings(max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_the_bootstrap_interval_lies_within_the_data_and_repeats(values):
    e = mean(values)
    slack = 1e-9 * max(1, *map(abs, values))
    assert min(values) - slack <= e.low <= e.high <= max(values) + slack
    assert e == mean(values)


def test_the_bootstrap_agrees_with_the_normal_interval_on_plain_data():
    values = list(np.random.default_rng(3).normal(5, 2, size=400))
    e, half = mean(values), 1.96 * np.std(values, ddof=1) / 20
    assert e.low == pytest.approx(np.mean(values) - half, abs=0.03)
    assert e.high == pytest.approx(np.mean(values) + half, abs=0.03)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="leave failed rows out"):
        mean([1.0, bad])


def test_pairing_takes_out_what_the_pairs_share():
    shared = np.random.default_rng(1).normal(0, 10, size=50)
    a, b = shared + 1 + np.random.default_rng(2).normal(0, 0.1, 50), shared
    e = paired_difference(list(a), list(b))
    assert 0.9 < e.low < e.value < e.high < 1.1
    assert paired_difference(list(b), list(a)).value == pytest.approx(-e.value)


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 values against 1"):
        paired_difference([1, 2], [1])


@settings(max_examples=25)
@given(OUTCOMES)
def test_win_rate_and_its_mirror_image_agree(outcomes):
    e, mirror = win_rate(outcomes), win_rate([1 - x for x in outcomes])
    assert e.value == pytest.approx(sum(outcomes) / len(outcomes))
    assert 0 <= e.low <= e.value + 1e-12
    assert e.value - 1e-12 <= e.high <= 1
    assert mirror.value == pytest.approx(1 - e.value)
    assert mirror.low == pytest.approx(1 - e.high, abs=0.02)


def test_eight_wins_of_eight_do_not_claim_certainty():
    wins, ties = win_rate([1.0] * 8), win_rate([0.5] * 8)
    assert wins.value == wins.high == 1
    assert wins.low == pytest.approx(proportion(8, 8).low)
    assert ties.low < 0.5 < ties.high
    assert win_rate([1.0] * 1000).low > 0.99


def test_an_outcome_that_is_none_of_the_three_is_refused():
    with pytest.raises(ValueError, match=r"0\.7"):
        win_rate([1.0, 0.7])


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
       st.sampled_from([0.9, 0.95, 0.99]))
def test_a_proportion_is_to_the_last_bit_what_scipy_has(of: tuple[int, int], confidence: float) -> None:
    from scipy.stats import binomtest, t

    found = proportion(*of, confidence)
    ends = binomtest(*of).proportion_ci(confidence_level=confidence, method="wilson")
    assert (found.low, found.high) == (ends.low, ends.high)
    assert t_isf((1 - confidence) / 2, of[1]) == t.isf((1 - confidence) / 2, of[1])
