"""Cohen's kappa: worked values, chance at nought, and an interval that covers what was planted."""

import numpy as np
import pytest

from cai_assets.evals.kappa import cohens_kappa
from cai_assets.evals.statistics import Estimate


def test_the_worked_example():
    # 20 both A, 15 both B, 5 and 10 apart: observed 0.7, by chance 0.5
    one = ["A"] * 25 + ["B"] * 25
    other = ["A"] * 20 + ["B"] * 5 + ["A"] * 10 + ["B"] * 15
    found = cohens_kappa(one, other)
    assert found.value == pytest.approx(0.4)
    assert found.n == 50
    assert found.low == pytest.approx(0.4 - 2.01 * 0.128, abs=0.02)  # the large-sample error is about 0.128
    assert found.low < 0.4 < found.high


def test_chance_agreement_is_near_nought_and_covered():
    rng, hits = np.random.default_rng(5), 0
    for _ in range(100):
        one, other = (rng.choice(["A", "B", "tie"], 60, p=p).tolist() for p in ([0.5, 0.3, 0.2], [0.6, 0.4, 0.0]))
        found = cohens_kappa(one, other)
        hits += found.low <= 0 <= found.high
    assert hits >= 90


def test_a_planted_agreement_is_covered():
    rng, hits = np.random.default_rng(6), 0
    for _ in range(100):
        people = rng.choice(["A", "B"], 80)
        ours = np.where(rng.random(80) < 0.8, people, np.where(people == "A", "B", "A"))
        found = cohens_kappa(ours.tolist(), people.tolist())
        hits += found.low <= 0.6 <= found.high  # 80 % right of two even categories
    assert hits >= 89


def test_what_chance_explains_wholly_is_unknown():
    assert cohens_kappa(["A"] * 5, ["A"] * 5) == Estimate(None, 5)
    assert cohens_kappa([], []) == Estimate(None, 0)
    assert cohens_kappa(["A"], ["B"]).value == 0
    assert cohens_kappa(["A", "B"] * 10, ["A", "B"] * 10).value == 1


def test_it_is_to_the_last_bit_what_scikit_learn_has():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(7)
    for n in range(2, 200):
        one, other = (["A", "B", *rng.choice(["A", "B", "tie"], n).tolist()] for _ in range(2))
        assert cohens_kappa(one, other).value == cohen_kappa_score(one, other)
