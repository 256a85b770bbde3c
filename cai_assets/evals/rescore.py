"""What another constitution would have rewarded: stored rollouts, scored again, before RL is paid for.

Guarantees: the same rollouts, the same judge and the same way to add scores up on both sides, so that only principles
differ; the rewards are in units of the standard deviations over these rollouts (``weighing.py``), as at the end of a
training. What counts is the order of the responses to one prompt: a policy learns from nothing else. A pair has turned
if the other response is now the better one; prompts are what is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from cai_assets.evals.rubric import Part
from cai_assets.evals.statistics import Estimate, clustered_mean, mean, proportion
from cai_assets.evals.weighing import Numbers, rewards, scale_of

EQUAL = 1e-9


class Example(NamedTuple):
    """A pair that turned: ``rewards`` of the first, and of the second, before and after."""

    prompt_id: str
    first: str
    second: str
    rewards_first: tuple[float, float]
    rewards_second: tuple[float, float]


@dataclass(frozen=True)
class Rescored:
    """``changed``: the share of prompts in whose responses the order of any two turned; ``turned``: of pairs;
    ``tau``: Kendall's tau between both orders, one value a prompt. ``moved``: of each part that is new, edited or gone
    the mean of its score now less before, one value a prompt (of one that is new or gone the mean itself)."""

    rollouts: int
    changed: Estimate
    turned: Estimate
    tau: Estimate
    moved: Mapping[str, Estimate]
    examples: tuple[Example, ...]


class Side(NamedTuple):
    """The parts of a constitution's reward, and the scores (responses, parts) by them."""

    parts: Sequence[Part]
    values: Numbers

    @property
    def rewards(self) -> Numbers:
        return rewards(self.values, [part.share for part in self.parts], scale_of(self.values))


def rescored(
    rollouts: Sequence[Mapping[str, Any]], before: Side, after: Side, *, confidence: float, shown: int = 5
) -> Rescored:
    """``rollouts``: ``prompt_id`` and ``response`` of each, in the order of the rows of both sides' scores."""
    old, new = before.rewards, after.rewards
    groups: dict[str, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        groups.setdefault(rollout["prompt_id"], []).append(i)
    pairs = [(p, i, j) for p, members in groups.items() for i, j in combinations(members, 2)
             if abs(old[i] - old[j]) > EQUAL or abs(new[i] - new[j]) > EQUAL]
    turned = [bool((old[i] - old[j]) * (new[i] - new[j]) < -EQUAL**2) for _, i, j in pairs]
    several = {p for p, members in groups.items() if len(members) > 1}
    hit = {p for (p, _, _), turn in zip(pairs, turned, strict=True) if turn}
    taus = [float(tau) for p in several if not np.isnan(tau := kendalltau(old[groups[p]], new[groups[p]]).statistic)]
    worst = sorted((pair for pair, turn in zip(pairs, turned, strict=True) if turn),
                   key=lambda x: -abs((old[x[1]] - old[x[2]]) - (new[x[1]] - new[x[2]])))[:shown]
    return Rescored(
        len(rollouts), proportion(len(hit), len(several), confidence),
        clustered_mean([float(turn) for turn in turned], [p for p, _, _ in pairs], confidence, bounds=(0.0, 1.0)),
        mean(taus, confidence), _moved(before, after, rollouts, confidence),
        tuple(Example(p, rollouts[i]["response"], rollouts[j]["response"], (old[i], new[i]), (old[j], new[j]))
              for p, i, j in worst))


def _moved(
    before: Side, after: Side, rollouts: Sequence[Mapping[str, Any]], confidence: float
) -> dict[str, Estimate]:
    old, new = ({part.name: (part.digest, side.values[:, i]) for i, part in enumerate(side.parts)}
                for side in (before, after))
    prompts = [r["prompt_id"] for r in rollouts]
    out = {}
    for name in dict.fromkeys([*old, *new]):
        then, now = old.get(name), new.get(name)
        if then and now and then[0] == now[0]:
            continue
        none = np.zeros(len(prompts))
        values: Numbers = (now[1] if now else none) - (then[1] if then else none)
        there = ~np.isnan(values)
        out[name] = clustered_mean(values[there].tolist(), [p for p, is_there in zip(prompts, there, strict=True)
                                                            if is_there], confidence)
    return out
