"""A win rate with the judge's length bias removed.

Judges prefer longer answers. As in AlpacaEval 2.0 (Dubois et al. 2024, *Length-Controlled AlpacaEval*), a
logistic regression explains the outcomes by the policy and by the difference in length, and the rate is what it
predicts where there is no such difference. Simplified: one policy at a time, so the paper's terms for instructions,
which need many models, are left out; outcomes (a tie is half a win) instead of probabilities; length in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cai_assets.evals.statistics import Estimate, clustered_mean

FEWEST = 10  # prompts; with fewer a regression on length is meaningless
WEAK = 100.0  # inverse of the penalty on the length term: finite if length decides every outcome, else negligible


def length_controlled(
    outcomes: Sequence[float], differences: Sequence[float], clusters: Sequence[str], confidence: float = 0.95
) -> Estimate:
    """The rate of wins at equal length; ``differences``: words of the policy's answer less those of the other one.

    Prompts have equal weight however often they were answered. The interval is on the logit scale, from the variance
    that is robust to clusters (Liang and Zeger 1986). Unknown for fewer than FEWEST prompts, and where every
    answer differs by the same number of words: then length and policy are not identifiable.
    """
    n, lengths = len(set(clusters)), np.asarray(differences, dtype=float)
    if n < FEWEST or (len(set(differences)) == 1 and lengths[0] != 0):
        return Estimate(None, n)
    if len(set(outcomes)) == 1 or not lengths.any():
        return clustered_mean(outcomes, clusters, confidence)
    return _at_equal_length(np.asarray(outcomes, dtype=float), np.tanh(lengths / lengths.std()), clusters, confidence)


def _at_equal_length(won: np.ndarray, term: np.ndarray, clusters: Sequence[str], confidence: float) -> Estimate:
    from scipy.special import expit
    from scipy.stats import t
    from sklearn.linear_model import LogisticRegression

    names, place, size = np.unique(list(clusters), return_inverse=True, return_counts=True)
    weight = 1 / size[place]
    both = np.concatenate([term, term])[:, None]  # an outcome is part win and part loss
    fitted = LogisticRegression(C=WEAK).fit(
        both, np.repeat([1, 0], len(won)), sample_weight=np.concatenate([weight * won, weight * (1 - won)]))
    level, slope = float(fitted.intercept_[0]), float(fitted.coef_[0][0])
    design = np.column_stack([np.ones_like(term), term])
    p = expit(level + slope * term)
    information = (design * (weight * p * (1 - p))[:, None]).T @ design + np.diag([0.0, 1 / WEAK])
    scores = np.zeros((len(names), 2))
    np.add.at(scores, place, design * (weight * (won - p))[:, None])
    bread = np.linalg.inv(information)
    n = len(names)
    error = float(np.sqrt((bread @ (scores.T @ scores) @ bread)[0, 0] * n / (n - 2)))
    margin = error * float(t.isf((1 - confidence) / 2, n - 2))
    return Estimate(float(expit(level)), n, float(expit(level - margin)), float(expit(level + margin)))
