"""Policies on one scale: the model of Bradley and Terry (1952) over a judge's comparisons.

Guarantees: the table gives its numbers of comparisons and prompts; intervals are the bootstrap's over prompts,
because comparisons on one prompt are not independent; a tie is half a win for each side. A strength is given only where
the data have one: the likelihood has a finite maximum exactly for policies that wins in both directions join with the
reference (Ford 1957). Below ``enough`` prompts there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cai_assets.evals.power import detectable
from cai_assets.evals.statistics import Estimate, Telling, expanded, told
from cai_assets.settings.method import CONFIDENCE, ENOUGH

RESAMPLES = 999
TOLERANCE, LIMIT = 1e-9, 10_000
LEFT_OUT = 0.05  # share of resamples without a strength above which no interval is given
WON, LOST, APART = "won every comparison", "lost every comparison", "not connected"


class Contest(NamedTuple):
    """One comparison on one prompt: 1 if ``a`` won, 0 if ``b`` did, 0.5 for a tie."""

    prompt: str
    a: str
    b: str
    outcome: float


@dataclass(frozen=True)
class Standing:
    """``strength``: natural log of the odds of beating the reference, over n prompts; its ends may be infinite.
    ``comparisons``: those that involve the policy. ``why``: why it has no strength. ``detectable``:
    how far from one half the share of wins must be to be seen (``evals/power.py``)."""

    policy: str
    strength: Estimate
    comparisons: int
    verdict: str
    why: str = ""
    detectable: float | None = None

    @property
    def wins(self) -> Estimate:
        """The share of wins over the reference that the strength stands for."""
        value, low, high = (
            None if x is None else _wins_of(x) for x in (self.strength.value, self.strength.low, self.strength.high))
        return Estimate(value, self.strength.n, low, high)


@dataclass(frozen=True)
class Ranking:
    """The strongest policy first, those without a strength last."""

    reference: str
    standings: tuple[Standing, ...]
    comparisons: int
    prompts: int


def rank(
    contests: Sequence[Contest], *, reference: str = "base", confidence: float = CONFIDENCE, enough: int = ENOUGH
) -> Ranking:
    """Rank every policy that takes part. Raise ValueError if the reference does not, or an outcome is invalid."""
    policies = sorted({p for c in contests for p in (c.a, c.b)})
    if reference not in policies:
        raise ValueError(f"rank: {reference!r} takes part in no comparison; there are: {', '.join(policies) or 'none'}")
    won = _wins(contests, policies)
    home, together = policies.index(reference), won.sum(axis=0)
    point, drawn = strengths(together, home), _resampled(won, home)
    standings = []
    for i, policy in enumerate(policies):
        took_part = won[:, i, :].sum(axis=1) + won[:, :, i].sum(axis=1)
        n, comparisons = int((took_part > 0).sum()), round(float(took_part.sum()))
        if i == home:
            standings.append(Standing(policy, Estimate(0.0, n), comparisons, ""))
            continue
        why = _why(point[i], reference)
        e = Estimate(None, n) if why else _estimate(float(point[i]), drawn[:, i], n, confidence)
        seen = detectable(e, Telling(confidence, enough))
        if not why and n < enough:
            why, e = f"{n} prompts, {enough} needed", Estimate(None, n)
        standings.append(Standing(policy, e, comparisons, told(e, enough=enough, better="higher"), why,
                                  None if seen is None else _wins_of(seen) - 0.5))
    standings.sort(key=lambda s: (s.strength.value is None, -(s.strength.value or 0.0), s.policy))
    return Ranking(reference, tuple(standings), len(contests), won.shape[0])


def strengths(won: np.ndarray, home: int) -> np.ndarray:
    """Log odds over the policy ``home``; ``won[i, j]``: how often i won over j.

    Infinite for policies that are joined with it by wins, or by losses, alone; NaN for those not joined at all.
    """
    from scipy.sparse.csgraph import shortest_path

    reach = np.isfinite(shortest_path(won > 0, unweighted=True))
    up, down = reach[:, home], reach[home]
    log_odds = np.where(up & ~down, np.inf, np.where(down & ~up, -np.inf, np.nan))
    joined = np.flatnonzero(up & down)
    log_odds[joined] = _maximum(won[np.ix_(joined, joined)], int(np.flatnonzero(joined == home)[0]))
    return log_odds


def _maximum(won: np.ndarray, home: int) -> np.ndarray:
    import evalica

    winners, losers = np.nonzero(won)
    if not len(winners):
        return np.zeros(len(won))
    scores = evalica.bradley_terry(
        winners.tolist(), losers.tolist(), [evalica.Winner.X] * len(winners), weights=won[winners, losers].tolist(),
        tolerance=TOLERANCE, limit=LIMIT).scores
    log_scores = np.log([float(scores[i]) for i in range(len(won))])
    return np.asarray(log_scores - log_scores[home])


def _wins(contests: Sequence[Contest], policies: Sequence[str]) -> np.ndarray:
    """Wins by prompt, winner and loser."""
    prompts = {p: i for i, p in enumerate(sorted({c.prompt for c in contests}))}
    place = {p: i for i, p in enumerate(policies)}
    won = np.zeros((len(prompts), len(policies), len(policies)))
    for c in contests:
        if c.a == c.b or c.outcome not in (0, 0.5, 1):
            raise ValueError(f"rank: {c} is not a comparison: give two policies, and an outcome of 1, 0.5 or 0")
        won[prompts[c.prompt], place[c.a], place[c.b]] += c.outcome
        won[prompts[c.prompt], place[c.b], place[c.a]] += 1 - c.outcome
    return won


def _resampled(won: np.ndarray, home: int) -> np.ndarray:
    n = len(won)
    times = np.random.default_rng(0).multinomial(n, [1 / n] * n, RESAMPLES)
    sums = np.tensordot(times, won, axes=1)
    different, which = np.unique(sums.reshape(RESAMPLES, -1), axis=0, return_inverse=True)
    return np.array([strengths(x.reshape(won.shape[1:]), home) for x in different])[which.reshape(-1)]


def _estimate(value: float, drawn: np.ndarray, n: int, confidence: float) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    if len(known) < (1 - LEFT_OUT) * len(drawn) or n < 2:
        return Estimate(value, n)
    tail = (1 - expanded(confidence, n)) / 2
    # no averaging of two resamples: one of them may be infinite
    low, high = np.quantile(known, [tail, 1 - tail], method="inverted_cdf")
    return Estimate(value, n, float(low), float(high))


def _wins_of(strength: float) -> float:
    return 0.5 * (1 + math.tanh(strength / 2))


def _why(value: float, reference: str) -> str:
    if math.isnan(value):
        return f"{APART} with {reference} by comparisons"
    sweep = WON if value > 0 else LOST
    return "" if math.isfinite(value) else f"{sweep} with {reference} and whoever is joined with it"
