"""Near duplicates: what is found when only rows that share a bucket are compared."""

import random
import string
from collections.abc import Iterator

import numpy as np
import pytest

from cai_assets.steps import prompt_near
from cai_assets.steps.prompt_near import Near


@pytest.fixture
def _buckets_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_near, "EXACT_UP_TO", 0)


def text(draw: random.Random, words: int) -> str:
    return " ".join("".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(words))


def edited(draw: random.Random, original: str) -> str:
    """One word in twelve, and at least one, loses a letter."""
    words = original.split()
    for i in draw.sample(range(len(words)), k=max(1, len(words) // 12)):
        words[i] = words[i][:-1]
    return " ".join(words)


def pairs() -> Iterator[tuple[str, str]]:
    draw = random.Random(5)
    for n in range(600):
        original = text(draw, 8 + n % 120)
        yield original, edited(draw, original)


@pytest.mark.usefixtures("_buckets_only")
def test_buckets_find_edited_copies_of_any_length() -> None:
    originals, copies = zip(*pairs(), strict=True)
    held_out = np.arange(1200) < 600
    hits = Near([*originals, *copies]).across(held_out)
    assert all(hits[i] == i - 600 for i in hits)
    assert len(hits) >= 597  # a pair is missed with probability under 0.001


@pytest.mark.usefixtures("_buckets_only")
def test_buckets_agree_with_comparing_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(6)
    texts = [f"how do i {text(draw, 1)} the {text(draw, 1)}" for _ in range(200)]
    texts += [edited(draw, t) for t in texts[::2]]
    held_out = np.array([i % 3 == 0 for i in range(len(texts))])
    fast = Near(texts)
    monkeypatch.setattr(prompt_near, "EXACT_UP_TO", 10_000)
    exact = Near(texts)
    assert set(fast.across(held_out)) == set(exact.across(held_out))
    among = np.arange(len(texts))
    assert abs(len(fast.repeats(among)) - len(exact.repeats(among))) <= 2


@pytest.mark.usefixtures("_buckets_only")
def test_a_large_family_of_near_copies_is_not_compared_pair_by_pair() -> None:
    texts = [f"please write a short poem about the number {n}" for n in range(20_000)]
    held_out = np.arange(20_000) % 5 == 0
    near = Near(texts)
    assert len(near.across(held_out)) == 16_000
    assert len(near.repeats(np.flatnonzero(held_out))) > 3_990


def test_repeats_are_those_a_pass_in_order_drops() -> None:
    texts = ["the red house on the hill", "the red house on the hills", "a blue boat", "the red house on a hill"]
    assert Near(texts).repeats(np.arange(4)) == {1, 3}
    assert Near(texts).repeats(np.array([1, 2, 3])) == {3}


@pytest.mark.parametrize("at_once", [1, 50, 10_000])
def test_a_key_is_of_its_text_alone(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(7)
    texts = ["a", "é😀", "aa", *(text(draw, 1 + n % 9) for n in range(40))]
    alone = np.concatenate([prompt_near._keys([t], 3).T for t in texts])
    monkeypatch.setattr(prompt_near, "CHARS_AT_ONCE", at_once)
    assert (alone == prompt_near._keys(texts, 3).T).all()
    assert len({row.tobytes() for row in alone}) == len(set(texts))


@pytest.mark.parametrize("texts", [[], ["one"]])
@pytest.mark.parametrize("limit", [0, 10])
def test_nothing_to_compare(texts: list[str], limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_near, "EXACT_UP_TO", limit)
    near = Near(texts)
    assert near.across(np.ones(len(texts), dtype=bool)) == {}
    assert near.repeats(np.arange(len(texts))) == set()
