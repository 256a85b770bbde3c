"""Draws are stable: what changes in a constitution moves only the rows it must. Shares follow weights."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from cai_assets.constitution.draw import critique_key, draw, draw_many, evaluation_key, label_key
from cai_assets.constitution.model import Principle

PROMPTS = 4_000
ROUNDS = 4
KEYS = [label_key(f"pair-{i}") for i in range(300)]


def principle(name: str, weight: float = 1.0, text: str = "Which?") -> Principle:
    return Principle(id=name, weight=weight, preference=text)


def ids(principles: Sequence[Principle], keys: Sequence[str] = KEYS) -> list[str]:
    return [p.id for p in draw_many(principles, keys)]


sets = st.lists(
    st.builds(principle, st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True), st.floats(0.01, 100)),
    min_size=2, max_size=8, unique_by=lambda p: p.id)


@given(sets, st.randoms(use_true_random=False))
def test_an_edit_or_another_order_moves_no_row(principles: list[Principle], rng: random.Random) -> None:
    edited = [p.model_copy(update={"preference": "Which one?", "tags": ("do",)}) for p in principles]
    rng.shuffle(edited)
    assert ids(edited) == ids(principles)


@given(sets)
def test_adding_moves_rows_to_the_new_one_only_and_removing_moves_its_rows_only(principles: list[Principle]) -> None:
    *fewer, last = principles
    for before, after in zip(ids(fewer), ids(principles), strict=True):
        assert after in (before, last.id)


@given(sets, st.floats(0.01, 100))
def test_a_weight_moves_rows_to_or_from_its_principle_only(principles: list[Principle], weight: float) -> None:
    changed = [principles[0].model_copy(update={"weight": weight}), *principles[1:]]
    arrived = weight >= principles[0].weight
    for before, after in zip(ids(principles), ids(changed), strict=True):
        assert before == after or (after if arrived else before) == principles[0].id


@given(sets, st.sampled_from([0.25, 2.0, 8.0]))
def test_only_the_ratio_of_weights_matters(principles: list[Principle], factor: float) -> None:
    scaled = [p.model_copy(update={"weight": p.weight * factor}) for p in principles]
    assert ids(scaled) == ids(principles)


@pytest.mark.parametrize("weights", [[1] * 16, [1, 2, 3, 4], [0.5, 10, 1]])
def test_frequencies_follow_weights(weights: list[float]) -> None:
    principles = [principle(f"p{i}", w) for i, w in enumerate(weights)]
    keys = [critique_key(f"prompt-{i}", i % ROUNDS) for i in range(8_000)]
    counts = Counter(ids(principles, keys))
    expected = [w / sum(weights) * len(keys) for w in weights]
    assert chisquare([counts[p.id] for p in principles], expected).pvalue > 0.001


def chains(principles: Sequence[Principle]) -> list[list[str]]:
    return [ids(principles, [critique_key(f"prompt-{i}", r) for r in range(ROUNDS)]) for i in range(PROMPTS)]


def from_first(touched: list[bool]) -> int:
    """Steps to compute again: the first touched round and all that follow it."""
    return len(touched) - touched.index(True) if any(touched) else 0


@pytest.mark.parametrize(("change", "n"), [("edit", 16), ("remove", 16), ("add", 17)])
def test_the_share_of_chains_and_steps_touched_is_what_theory_says(change: str, n: int) -> None:
    """One of n principles takes part in 1 - (1 - 1/n)^4 of the chains: 22.8 % of 16, 21.5 % of 17."""
    principles = [principle(f"p{i:02}") for i in range(n)]
    with_it = chains(principles)
    without = chains(principles[:-1])
    if change == "edit":
        touched = [[i == "p15" for i in chain] for chain in with_it]
    else:
        touched = [[a != b for a, b in zip(x, y, strict=True)] for x, y in zip(with_it, without, strict=True)]
    of_chains = sum(map(any, touched)) / PROMPTS
    of_steps = sum(map(from_first, touched)) / (PROMPTS * ROUNDS)
    missed = 1 - 1 / n
    assert of_chains == pytest.approx(1 - missed**ROUNDS, abs=0.02)
    assert of_steps == pytest.approx(sum(1 - missed**k for k in range(1, ROUNDS + 1)) / ROUNDS, abs=0.015)


def test_rounds_draw_independently() -> None:
    principles = [principle(f"p{i:02}") for i in range(16)]
    repeats = sum(chain[0] == chain[1] for chain in chains(principles)) / PROMPTS
    assert repeats == pytest.approx(1 / 16, abs=0.015)


def test_keys_of_different_rows_differ() -> None:
    keys = {critique_key("1", 1), critique_key("1", 2), critique_key("2", 1), critique_key('1",1', 1), label_key("1"),
            evaluation_key("1")}
    assert len(keys) == 6


def test_draws_never_change_by_accident() -> None:
    principles = [principle("a"), principle("b", 2), principle("c", 0.5)]
    assert "".join(ids(principles, [critique_key(f"prompt-{i}", 0) for i in range(20)])) == "bbaccbaacbbbbaabaaba"
    assert "".join(ids(principles, [label_key(f"pair-{i}") for i in range(20)])) == "bcbabbabbababacbaaba"
    assert "".join(ids(principles, [evaluation_key(f"prompt-{i}") for i in range(20)])) == "abbcabbabbcbbacabcbb"


def test_tiny_and_huge_weights_can_be_drawn_from() -> None:
    assert set(ids([principle("a", 5e-324), principle("b", 1000)])) == {"b"}
    assert set(ids([principle("a", 5e-324)])) == {"a"}


def test_nothing_to_draw_from() -> None:
    with pytest.raises(ValueError, match="no principle to draw from"):
        draw([], "key")
