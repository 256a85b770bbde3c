"""Priorities in rewards: a lower tier never overturns what a higher one decides, as in votes, and decides elsewhere."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from cai_assets.constitution.check import Check
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.evals.rescore import Side, rescored
from cai_assets.evals.rubric import parts_of
from cai_assets.evals.weighing import Numbers, Share, Tier, as_they_are, rewards, scale_of

MARGIN = 1e-9


def shares(tiers: list[int], undecided: float, weights: list[float] | None = None, scored: bool = False) -> list[Share]:
    return [Share(w, tier=Tier(number=t, undecided=undecided), scored=scored)
            for t, w in zip(tiers, weights or [1.0] * len(tiers), strict=True)]


def by_votes(first: Numbers, second: Numbers, scored: bool, undecided: float) -> int | None:
    """The column, one a tier, by which a vote on two responses would be decided; None if none does."""
    for column, (a, b) in enumerate(zip(first, second, strict=True)):
        p = 1 / (1 + np.exp(b - a)) if scored else a * (1 - b) + (a * b + (1 - a) * (1 - b)) / 2
        if abs(p - 0.5) >= undecided + MARGIN:
            return column
    return None


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("undecided", [0.02, 0.05, 0.2])
def test_the_highest_tier_that_is_decided_as_in_a_vote_orders_two_responses(undecided: float, scored: bool) -> None:
    draw = np.random.default_rng(11)
    decided = dict.fromkeys([0, 1, 2, None], 0)
    for size in (0.0, 0.05, 0.3, 1.0):
        values = (40 * draw.normal(size=(40, 3)) if scored else draw.random((40, 3))) * [size, 1, 1]
        found = rewards(values, shares([1, 2, 3], undecided, [0.01, 1, 100], scored), scale_of(values))
        for i, j in combinations(range(40), 2):
            column = by_votes(values[i], values[j], scored, undecided)
            decided[column] += 1
            if column is not None:
                higher = np.abs(values[i] - values[j])[:column] * (0.25 if scored else 0.5)
                if (higher <= undecided * 1e-3).all() or column == 0:  # what is undecided still counts a little
                    assert (found[i] - found[j]) * (values[i] - values[j])[column] > 0
    assert decided[0] > 200
    assert decided[1] > 200


def test_where_the_higher_tier_says_the_same_of_all_the_lower_one_is_the_whole_reward() -> None:
    draw = np.random.default_rng(2)
    lower = draw.random(200)
    for higher in (0.97, 0.0):
        values = np.column_stack([np.full(200, higher), lower])
        found = rewards(values, shares([1, 2], 0.05), scale_of(values))
        assert found.std() == pytest.approx(1)
        assert np.corrcoef(found, lower)[0, 1] == pytest.approx(1)
    noise = np.column_stack([0.97 + 0.001 * draw.random(200), lower])
    assert np.corrcoef(rewards(noise, shares([1, 2], 0.05), scale_of(noise)), lower)[0, 1] > 0.99
    never = rewards(np.column_stack([draw.random(200), lower]), shares([1, 2], 0.0), as_they_are(2))
    assert abs(np.corrcoef(never, lower)[0, 1]) < 0.2, "without a margin the first tier decides always, as in a vote"


def test_within_a_tier_no_scale_swamps_another_and_noise_is_not_stretched() -> None:
    draw = np.random.default_rng(3)
    wide, narrow, low = draw.random(4000), 0.5 + 0.4 * (draw.random(4000) - 0.5), draw.random(4000)
    values = np.column_stack([wide, narrow, low])
    found = rewards(values, shares([1, 1, 2], 0.01, [0.5, 0.5, 1]), scale_of(values))
    each = [np.corrcoef(found, x)[0, 1] for x in (wide, narrow)]
    assert each[0] == pytest.approx(each[1], abs=0.05)
    assert found.std() < 1.01
    flat = np.column_stack([wide, 0.5 + 1e-4 * draw.random(4000)])
    assert np.corrcoef(rewards(flat, shares([1, 1], 0.05), scale_of(flat)), wide)[0, 1] > 0.99


def test_a_gate_takes_all_and_what_was_not_asked_counts_nothing() -> None:
    values = np.array([[0.9, 0.1], [0.9, 0.8], [0.3, 1.0], [np.nan, 0.6]])
    found = rewards(values, [Share(1, gate=True, tier=Tier(number=1, undecided=0.05)), *shares([2], 0.05)],
                    as_they_are(2))
    assert found[2] == 0
    assert found[1] > found[0] > found[3] > 0


def test_tiers_are_those_of_the_principles_that_reward_and_the_first_alone_is_as_without() -> None:
    def principle(name: str, **more: object) -> Principle:
        return Principle.model_validate({"id": name, "rubric": f"{name}?"} | more)

    def of(*principles: Principle) -> Constitution:
        return Constitution(name="c", version="v1", principles=principles)

    plain = parts_of(of(principle("a"), principle("b", weight=3)), questions=True, checks=0, undecided=0.05)
    same = parts_of(of(principle("a", priority=4), principle("b", weight=3, priority=4)), questions=True, checks=0,
                    undecided=0.3)
    assert [p.counted() for p in plain] == [p.counted() for p in same]
    assert "tier" not in plain[0].counted()
    ranked = parts_of(of(principle("a", priority=7), principle("b", weight=3, priority=2), principle("c", priority=7),
                         Principle(id="d", check=Check(max_words=9), priority=2)), questions=True, checks=0.5,
                      undecided=0.05)
    assert {p.name: (p.weight, p.tier and p.tier.number) for p in ranked} == {
        "question:a": (0.5, 2), "question:b": (1.0, 1), "question:c": (0.5, 2), "check:d": (0.5, 1)}
    assert ranked[0].counted()["tier"] == {"number": 2, "undecided": 0.05}


def test_a_priority_alone_turns_the_order_of_stored_rollouts() -> None:
    values = np.array([[0.9, 0.2], [0.5, 0.8], [0.5, 0.6], [0.1, 1.0]])
    rollouts = [{"prompt_id": "p", "response": str(i)} for i in range(4)]

    def side(priorities: tuple[int, int]) -> Side:
        principles = tuple(Principle(id=i, rubric=f"{i}?", priority=p) for i, p in zip("ab", priorities, strict=True))
        return Side(parts_of(Constitution(name="c", version="v1", principles=principles), questions=True, checks=0,
                             undecided=0.05), values)

    assert np.argsort(side((1, 2)).rewards).tolist() == [3, 2, 1, 0]
    assert np.argsort(side((2, 1)).rewards).tolist() == [0, 2, 1, 3]
    found = rescored(rollouts, side((1, 2)), side((2, 1)), confidence=0.95)
    assert found.changed.value == 1
    assert found.moved == {}
