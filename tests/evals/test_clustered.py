"""Estimates of clustered values: they cover what was planted, call a planted null nothing, and say when they cannot."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import norm

from cai_assets.evals.statistics import (
    MANY,
    Estimate,
    clustered_difference,
    clustered_mean,
    holm,
    mean,
    paired_p,
    proportion,
    told,
)

ROUNDS = 200
BELOW = 0.9  # 200 rounds of a 95 % interval: fewer than 180 hits have a chance of 0.2 %


def answers(rng: np.random.Generator, rate: float, *, prompts: int, samples: int) -> dict[str, list[float]]:
    """0/1 answers whose chance differs from prompt to prompt and is ``rate`` on average over all prompts."""
    leaning = rng.normal(0, 1, prompts)
    chance = norm.cdf(norm.ppf(rate) * math.sqrt(2) + leaning)
    return {f"p{i}": rng.binomial(1, p, samples).astype(float).tolist() for i, p in enumerate(chance)}


def flat(by_prompt: dict[str, list[float]]) -> tuple[list[float], list[str]]:
    return [v for of in by_prompt.values() for v in of], [k for k, of in by_prompt.items() for _ in of]


def shares(rate: float, **size: int) -> Iterator[Estimate]:
    rng = np.random.default_rng(11)
    for _ in range(ROUNDS):
        yield clustered_mean(*flat(answers(rng, rate, **size)))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
@pytest.mark.parametrize(("prompts", "samples"), [(20, 1), (20, 3), (60, 1), (60, 4)])
def test_a_planted_rate_lies_in_its_interval(rate, prompts, samples):
    found = list(shares(rate, prompts=prompts, samples=samples))
    assert np.mean([e.low <= rate <= e.high for e in found]) >= BELOW
    assert all(e.n == prompts and e.low <= e.value <= e.high for e in found)


def test_answers_of_one_prompt_are_not_taken_for_independent():
    copies = {f"p{i}": [float(i < 6)] * 50 for i in range(20)}
    assert clustered_mean(*flat(copies)).n == 20
    e, naive = clustered_mean(*flat(copies)), proportion(300, 1000)
    assert e.value == naive.value
    assert e.high - e.low > 5 * (naive.high - naive.low)


def test_one_answer_for_each_prompt_is_a_plain_share_or_mean():
    ids = [f"p{i}" for i in range(9)]
    assert clustered_mean([1.0] * 3 + [0.0] * 6, ids) == proportion(3, 9)
    values = [0.1 * i for i in range(9)]
    assert clustered_mean(values, ids) == mean(values)


def test_each_prompt_weighs_the_same_however_often_it_was_answered():
    assert clustered_mean([1, 1, 1, 1, 0], ["a"] * 4 + ["b"]).value == 0.5


@pytest.mark.parametrize(("prompts", "samples"), [(20, 1), (20, 4), (60, 2)])
@pytest.mark.parametrize("change", [-0.25, 0.25])
def test_a_planted_difference_lies_in_its_interval(change, prompts, samples):
    rng, hits = np.random.default_rng(5), 0
    for _ in range(ROUNDS):
        after = answers(rng, 0.5 + change, prompts=prompts, samples=samples)
        e = clustered_difference(after, answers(rng, 0.5, prompts=prompts, samples=samples))
        hits += e.low <= change <= e.high
    assert hits / ROUNDS >= BELOW


@pytest.mark.parametrize("rate", [0.05, 0.5])
@pytest.mark.parametrize(("prompts", "samples"), [(20, 1), (40, 1), (40, 4)])
def test_a_planted_null_is_rarely_called_an_effect(rate, prompts, samples):
    rng, called = np.random.default_rng(3), 0
    for _ in range(ROUNDS):
        one, again = (answers(rng, rate, prompts=prompts, samples=samples) for _ in range(2))
        called += told(clustered_difference(one, again), enough=20, better="lower") in ("better", "worse")
    assert called / ROUNDS <= 0.1


def test_a_large_planted_effect_is_told_by_its_direction():
    rng = np.random.default_rng(2)
    low, high = (answers(rng, rate, prompts=40, samples=1) for rate in (0.1, 0.8))
    e = clustered_difference(low, high)
    assert told(e, enough=20, better="lower") == "better"
    assert told(e, enough=20, better="higher") == "worse"
    assert told(e, enough=41, better="lower") == "too few to tell"


def test_only_prompts_that_both_sides_answered_are_compared():
    e = clustered_difference({"a": [1.0], "b": [0.0], "c": []}, {"a": [0.0], "b": [1.0], "c": [1.0], "d": [1.0]})
    assert (e.value, e.n) == (0.0, 2)
    assert clustered_difference({"a": [1.0]}, {"b": [1.0]}) == Estimate(None, 0)
    assert told(Estimate(None, 0), enough=2, better="lower") == "too few to tell"


def test_differences_that_are_all_alike_do_not_claim_certainty():
    every, none = {f"p{i}": [1.0] for i in range(30)}, {f"p{i}": [0.0] for i in range(30)}
    same, full = clustered_difference(every, every), clustered_difference(every, none)
    assert (same.value, same.low, same.high) == (0.0, pytest.approx(-0.1135, abs=1e-3), pytest.approx(0.1135, abs=1e-3))
    assert told(same, enough=20, better="higher") == "no difference seen"
    assert full.high == full.value == 1.0
    assert 0.7 < full.low < 1
    words = {k: [12.0] for k in every}
    assert clustered_mean(*flat(words), bounds=None) == Estimate(12.0, 30, 12.0, 12.0)


def test_two_prompts_have_the_widest_interval_there_is():
    assert clustered_mean([0.2, 0.4], ["a", "b"]) == Estimate(pytest.approx(0.3), 2, 0.2, 0.4)


def test_a_p_value_is_exact_for_few_and_about_uniform_under_the_null():
    assert paired_p([1, 1, 1, 1, 0]) == pytest.approx(2 / 16)
    assert paired_p([0, 0]) == paired_p([]) == paired_p([0.4]) == 1.0
    rng = np.random.default_rng(4)
    p = [paired_p(rng.normal(size=8).tolist()) for _ in range(300)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)
    assert paired_p(rng.normal(1, 1, size=40).tolist()) < 0.001


def test_holm_is_the_worked_example_and_keeps_the_order():
    # Holm 1979: with 4 tests the smallest p counts four times, and none falls below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_among_many_nulls_holm_calls_few_families_an_effect():
    rng = np.random.default_rng(8)
    families = [holm([paired_p(rng.normal(size=8).tolist()) for _ in range(8)]) for _ in range(60)]
    assert np.mean([min(f) < 0.05 for f in families]) <= 0.15


def test_many_values_get_the_interval_that_resampling_gives():
    values = np.random.default_rng(3).normal(0.1, 1.0, MANY).tolist()
    resampled, direct = mean(values), mean([*values, values[0]])
    assert direct.low == pytest.approx(resampled.low, abs=3e-3)
    assert direct.high == pytest.approx(resampled.high, abs=3e-3)
