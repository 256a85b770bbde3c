"""How the parts of a reward become one number: weights, gates, and priorities.

Without priorities each part is divided by its standard deviation before the parts are added, so that none swamps
another by its scale (normalize, then sum: GDPO, Liu et al. 2026, arXiv 2601.05242).

With priorities the parts are added tier by tier, and a lower tier moves the sum by no more than the difference at which
the tier above it is decided:

    x_t = s_t + m * squeezed(x_(t+1)),    s_t = sum of v_p y_p / sum of v_p,    v_p = w_p / max(sd_p, m)

``y_p``: a response's score by principle p, a probability of Yes; of a reward model half its score. ``m``: twice
``labels.undecided``. ``squeezed``: into [0, 1], without a change of order. Why: of two responses judged apart, each by
Yes or No, tier t prefers the first with probability 1/2 + (s_t - s_t') / 2 where equal verdicts count half, which is
within ``undecided`` of one half, as a vote has it, if and only if s_t and s_t' are nearer than m; and Bradley-Terry's
probability 1 / (1 + exp(r' - r)) has the same slope there in r / 2. So of any two responses to a prompt the order is
that of the highest tier that decides between them, whatever the tiers below it say, and where none does all of them
count. A threshold alone would not do: preferences decided beyond one may run in a circle (Tversky 1969, "Intransitivity
of preferences"), and a reward cannot.

Guarantees: a response that breaks a gate gets no more than any other; the sum is in units of the largest standard
deviation that it can have by those of its parts, with priorities or without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Numbers = npt.NDArray[np.float64]
BROKEN = 0.5  # a gate's score below this is a broken rule
FLAT = 1e-6  # nothing is learned from a part whose standard deviation is not above this


class Tier(BaseModel):
    """A priority: ``number`` among those of a reward, 1 is the highest; ``undecided`` as ``labels.undecided``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    undecided: float

    @property
    def margin(self) -> float:
        """The difference at which it decides between two responses."""
        return 2 * self.undecided


class Share(NamedTuple):
    """How one part counts. ``scored``: its values are a reward model's, of any size, and no probabilities."""

    weight: float
    gate: bool = False
    tier: Tier | None = None
    scored: bool = False


class Scale(NamedTuple):
    """Mean and standard deviation of each part, (parts,); 0 for a part without values."""

    mean: Numbers
    deviation: Numbers


class Sum(NamedTuple):
    """Of one tier and those below it: a number for each response (responses,), and the ``mean``, the largest standard
    ``deviation`` and the highest value (None: there is none) that it can have."""

    values: Numbers
    mean: float
    deviation: float
    highest: float | None


def scale_of(values: Numbers) -> Scale:
    """Over the responses, of (responses, parts)."""
    there = ~np.isnan(values)
    n = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, values, 0).sum(axis=0) / n
    return Scale(np.asarray(mean), np.asarray(np.sqrt(np.where(there, (values - mean) ** 2, 0).sum(axis=0) / n)))


def as_they_are(parts: int) -> Scale:
    """The scale that changes nothing."""
    return Scale(np.zeros(parts), np.ones(parts))


def scaled(values: Numbers, deviation: Numbers) -> Numbers:
    """Each column divided by its deviation; nothing is learned from one that is the same for all: it becomes 0."""
    flat = deviation <= FLAT
    return np.where(flat & ~np.isnan(values), 0.0, values / np.where(flat, 1.0, deviation))


def rewards(values: Numbers, shares: Sequence[Share], scale: Scale) -> Numbers:
    """The reward of each response, (responses, parts) to (responses,), by the parts that it has (NaN: was not asked);
    of one that breaks a gate 0, or the least of all where that is less."""
    weights = np.array([0.0 if share.tier else share.weight for share in shares])
    units = scaled(values, scale.deviation)
    whole = (np.where(np.isnan(units), 0.0, units) * weights).sum(axis=1)
    if any(share.tier for share in shares):
        whole = whole + _by_tiers(values, shares, scale)
    broken = gated(values, [share.gate for share in shares])
    return np.where(broken, min(0.0, float(whole.min(initial=0.0))), whole)


def gated(values: Numbers, gates: Sequence[bool]) -> npt.NDArray[np.bool_]:
    """Which responses break a gate: ``values`` as they are, before they are scaled. What was not asked breaks none."""
    return np.asarray((np.nan_to_num(values, nan=1.0) < BROKEN)[:, list(gates)].any(axis=1))


def _by_tiers(values: Numbers, shares: Sequence[Share], scale: Scale) -> Numbers:
    """The parts that have a tier, in units of the largest standard deviation, times the weights of the highest tier."""
    tiers = sorted({share.tier.number for share in shares if share.tier})
    members = [[i for i, share in enumerate(shares) if share.tier and share.tier.number == n] for n in tiers]
    found: Sum | None = None
    for columns in reversed(members):
        found = _tier(values[:, columns], [shares[i] for i in columns],
                      Scale(scale.mean[columns], scale.deviation[columns]), found)
    if found is None or found.deviation <= FLAT:
        return np.zeros(len(values))
    return found.values / found.deviation * sum(shares[i].weight for i in members[0])


def _tier(values: Numbers, shares: Sequence[Share], scale: Scale, below: Sum | None) -> Sum:
    """One tier, with what is ``below`` it. A part is not stretched whose values differ by less than decides."""
    margin = shares[0].tier.margin if shares[0].tier else 0.0
    unit = np.array([0.5 if share.scored else 1.0 for share in shares])
    stretched = np.maximum(scale.deviation * unit, margin)
    weights = np.where(stretched > FLAT, [share.weight for share in shares] / np.maximum(stretched, FLAT), 0.0)
    there = np.where(np.isnan(values), 0.0, weights)
    own = (np.nan_to_num(values) * unit * there).sum(axis=1) / np.maximum(there.sum(axis=1), FLAT)
    total = max(float(weights.sum()), FLAT)
    mean, deviation = (float((x * unit * weights).sum()) / total for x in scale)
    highest = None if any(share.scored for share in shares) else 1.0
    if below is None:
        return Sum(own, mean, deviation, highest)
    lower = _squeezed(below)
    return Sum(own + margin * lower.values, mean + margin * lower.mean, deviation + margin * lower.deviation,
               None if highest is None else highest + margin)


def _squeezed(x: Sum) -> Sum:
    """Into [0, 1], without a change of order: by its highest value, or by a curve of slope 1 at its mean, whose long
    tails tell high scores of a reward model apart."""
    if x.highest is not None:
        return Sum(x.values / x.highest, x.mean / x.highest, x.deviation / x.highest, 1.0)
    apart = 2 * (x.values - x.mean)
    return Sum(0.5 + apart / (1 + np.abs(apart)) / 2, 0.5, x.deviation, 1.0)
