"""A win rate at equal length: a planted taste for length is taken out, and what cannot be told apart is unknown."""

import numpy as np
import pytest

from cai_assets.evals.length_control import FEWEST, length_controlled
from cai_assets.evals.statistics import Estimate, clustered_mean


def planted(rng: np.random.Generator, *, n: int, quality: float, taste: float, longer: float, samples: int = 1):
    """Outcomes of a judge that likes length; the policy's answers are ``longer`` words longer on average."""
    words = rng.normal(longer, 30, n * samples)
    term = np.tanh(words / words.std())
    won = rng.random(n * samples) < 1 / (1 + np.exp(-(quality + taste * term)))
    return won.astype(float).tolist(), words.tolist(), [f"p{i // samples}" for i in range(n * samples)]


@pytest.mark.parametrize(("quality", "samples"), [(0.0, 1), (0.8, 1), (0.0, 3)])
def test_a_taste_for_length_is_taken_out_and_the_quality_left(quality, samples):
    rng, truth = np.random.default_rng(1), 1 / (1 + np.exp(-quality))
    hits, plain = 0, 0
    for _ in range(60):
        outcomes, words, prompts = planted(rng, n=150, quality=quality, taste=1.5, longer=30, samples=samples)
        e, naive = length_controlled(outcomes, words, prompts), clustered_mean(outcomes, prompts)
        hits += e.low <= truth <= e.high
        plain += naive.low <= truth <= naive.high
        assert e.n == 150
    assert hits / 60 >= 0.88
    assert plain / 60 < 0.3


def test_without_a_taste_for_length_it_is_the_plain_rate():
    rng = np.random.default_rng(2)
    outcomes, words, prompts = planted(rng, n=400, quality=0.5, taste=0.0, longer=0)
    e, naive = length_controlled(outcomes, words, prompts), clustered_mean(outcomes, prompts)
    assert e.value == pytest.approx(naive.value, abs=0.03)
    assert e.low == pytest.approx(naive.low, abs=0.03)


def test_where_length_decides_everything_equal_length_is_even():
    words = [10.0] * 30 + [-10.0] * 30
    e = length_controlled([1.0] * 30 + [0.0] * 30, words, [f"p{i}" for i in range(60)])
    assert e.value == pytest.approx(0.5, abs=0.01)


def test_what_cannot_be_told_apart_is_unknown():
    ids = [f"p{i}" for i in range(40)]
    assert length_controlled([1.0, 0.0] * 20, [7.0] * 40, ids) == Estimate(None, 40)
    few = ids[: FEWEST - 1]
    assert length_controlled([1.0] * len(few), list(range(len(few))), few) == Estimate(None, len(few))
    assert length_controlled([], [], []) == Estimate(None, 0)


def test_equal_lengths_or_one_outcome_leave_the_plain_rate():
    ids = [f"p{i}" for i in range(40)]
    outcomes = [1.0] * 30 + [0.0] * 10
    assert length_controlled(outcomes, [0.0] * 40, ids) == clustered_mean(outcomes, ids)
    every = length_controlled([1.0] * 40, [float(i) for i in range(40)], ids)
    assert (every.value, every.high) == (1.0, 1.0)
    assert 0.85 < every.low < 1
