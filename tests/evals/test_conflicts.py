"""Planted conflicts are found and nulls are not, on tables of verdicts; what counts, and what does not."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest

from cai_assets.evals.conflicts import AGREE, NOTHING_SEEN, OPPOSED, Conflicts, conflicts
from cai_assets.evals.power import detectable_sign
from cai_assets.evals.statistics import FEW, sign_p
from cai_assets.evals.stress import ROWS
from cai_assets.reports.stress import as_dict, matrix, sentences

SEEDS, PROMPTS = 100, 30
# What moves each principle's verdicts: 'b' is the opposite of 'a', 'd' the same as 'a', 'c' and 'e' neither.
MOVED_BY = {"a": (1, 0, 0), "b": (-1, 0, 0), "c": (0, 1, 0), "d": (1, 0, 0), "e": (0, 0, 1)}
LEVEL = {"a": 2.0, "b": -3.0, "c": 3.0, "d": 0.0, "e": -2.0}  # some say nearly always yes, others no
TRUTH = {frozenset("ab"): OPPOSED, frozenset("bd"): OPPOSED, frozenset("ad"): AGREE}


def vote(name: str, first: float | None, second: float | None = None, by: str = "labeler") -> dict[str, Any]:
    second = first if second is None else second
    p = None if first is None or second is None else (first + second) / 2
    return {"principle_id": name, "by": by, "number": int(by == "paraphrase"), "p_yes": p, "p_first": first,
            "p_second": second, "error": None if p is not None else "no memory"}


def row(pair: str, prompt: str, sample: int, votes: list[dict[str, Any]], again: list[dict[str, Any]] | None = None
        ) -> dict[str, Any]:
    first, second = pair
    return {"first": first, "second": second, "lean": "neither", "prompt_id": prompt, "row_key_prompt": f"w:{prompt}",
            "messages": [{"role": "user", "content": f"Prompt {prompt}"}], "sample": sample, "error": None,
            "response": f"{prompt} {sample}", "row_key": f"r:{prompt}:{sample}", "row_id": f"{prompt}:{sample}",
            "votes": votes, "again": again or [], "row_keys": []}


def simulated(seed: int, names: str, responses: int = 2) -> pl.DataFrame:
    """Verdicts that depend on the response, its prompt, the place of the options, and noise of the judge."""
    rng, rows = np.random.default_rng(seed), []
    for pair in map("".join, combinations(names, 2)):
        for n in range(PROMPTS):
            ease = rng.normal(size=3)
            for sample in range(responses):
                traits = ease + rng.normal(size=3)
                said = [LEVEL[p] + 2 * float(np.dot(MOVED_BY[p], traits)) + rng.normal(scale=0.7) for p in pair]
                rows.append(row(pair, f"{pair}{n}", sample, [
                    vote(p, *(1 / (1 + np.exp(-x + place + rng.normal(scale=0.2))) for place in (-0.8, 0.8)))
                    for p, x in zip(pair, said, strict=True)]))
    return pl.DataFrame(rows, schema=ROWS)


def found_in(seed: int, names: str, responses: int = 2) -> dict[frozenset[str], str]:
    found = conflicts(simulated(seed, names, responses), confidence=0.95, enough=20)
    return {frozenset((p.first, p.second)): p.verdict for p in found.pairs}


def test_a_planted_conflict_is_found_and_nulls_stay_at_the_level() -> None:
    """Of 100 constitutions: power at least 90%, and any false verdict among the null pairs in at most 5%."""
    verdicts = [found_in(seed, "abc") for seed in range(SEEDS)]
    assert sum(v[frozenset("ab")] == OPPOSED for v in verdicts) >= 0.9 * SEEDS
    alarms = sum(any(verdict in (OPPOSED, AGREE) for pair, verdict in v.items() if pair not in TRUTH) for v in verdicts)
    assert alarms <= 0.05 * SEEDS + 2 * (0.05 * 0.95 * SEEDS) ** 0.5
    assert not any(FEW in v.values() for v in verdicts)


def test_agreement_is_told_from_conflict_and_more_responses_change_no_truth() -> None:
    verdicts = [found_in(1000 + seed, "abde", responses=4) for seed in range(12)]
    for pair, truth in TRUTH.items():
        assert sum(v[pair] == truth for v in verdicts) >= 11, pair
    assert sum(verdict == NOTHING_SEEN for v in verdicts for pair, verdict in v.items() if pair not in TRUTH) >= 32


def of(rows: list[dict[str, Any]], enough: int = 2) -> Conflicts:
    return conflicts(pl.DataFrame(rows, schema=ROWS), confidence=0.95, enough=enough)


def test_what_is_undecided_ungraded_or_alone_is_counted_and_no_verdict() -> None:
    rows = [
        row("ab", "1", 0, [vote("a", 0.9), vote("b", 0.2)]), row("ab", "1", 1, [vote("a", 0.4), vote("b", 0.6)]),
        row("ab", "2", 0, [vote("a", 0.9, 0.1), vote("b", 0.2)]), row("ab", "2", 1, [vote("a", 0.5), vote("b", 0.6)]),
        row("ab", "3", 0, [vote("a", None), vote("b", 0.2)]), row("ab", "3", 1, [vote("a", 0.5), vote("b", 0.6)]),
        row("ab", "4", 0, []), row("ab", "4", 1, [vote("a", 0.5), vote("b", 0.6)]),
        row("ab", "5", 0, [vote("a", 0.9), vote("b", 0.9)])]
    (pair,) = of(rows).pairs
    assert (pair.prompts, pair.comparisons, pair.undecided, pair.ungraded, pair.opposed.n) == (5, 4, 1, 2, 1)
    assert (pair.verdict, pair.p_holm) == (FEW, None)
    assert pair.answers == {"first": 1, "second": 1, "both": 1, "unclear": 6}
    (worst,) = pair.examples
    assert (worst.prompt, worst.kept_first, worst.kept_second) == ("Prompt 1", "1 0", "1 1")
    assert worst.apart == pytest.approx(0.4)


def test_what_so_many_prompts_would_have_found_is_found_in_four_of_five() -> None:
    n, level = 40, 0.05 / 3
    share = detectable_sign(n, level)
    assert share
    opposed = np.random.default_rng(5).binomial(n, share, size=4000)
    assert np.mean([sign_p(int(k), n - int(k)) <= level for k in opposed]) == pytest.approx(0.8, abs=0.02)
    assert detectable_sign(4, level) is None


def test_beside_no_conflict_seen_stands_what_could_have_been_found() -> None:
    found = conflicts(simulated(3, "ace"), confidence=0.95, enough=20)
    unseen = [pair for pair in found.pairs if pair.verdict == NOTHING_SEEN]
    assert unseen
    for pair in unseen:
        assert pair.detectable == detectable_sign(pair.leaning, 0.05 / 3)
        assert f"{NOTHING_SEEN} (detectable: {pair.detectable:.0%} opposed)" in matrix(found)
    most = max(pair.detectable or 0 for pair in unseen)
    assert f"would have found opposed verdicts in {most:.0%} or more." in sentences(found)[0]
    (few,) = of([row("ab", "1", s, [vote("a", 0.9 - s / 2), vote("b", 0.2 + s / 2)]) for s in range(2)], 20).pairs
    assert (few.leaning, few.detectable) == (1, detectable_sign(20, 0.05))
    assert as_dict(found)["pairs"][0]["detectable"] == found.pairs[0].detectable


def test_a_principle_contradicts_itself_by_order_in_other_words_and_by_another_judge() -> None:
    yes, no = vote("a", 0.9), vote("b", 0.1)
    again = [vote("a", 0.2, by="paraphrase"), vote("b", 0.2, by="paraphrase"), vote("a", 0.8, by="second judge"),
             vote("b", 0.8, 0.4, by="second judge")]
    rows = [row("ab", str(n), sample, [yes, no if n else vote("b", 0.7, 0.3)], again)
            for n in range(4) for sample in range(2)]
    a, b = of(rows).principles
    assert [e.value for e in (a.orders, a.other_words, a.judge)] == [0, 1, 0]
    assert b.orders.value == pytest.approx(1 / 4)
    assert (b.other_words.value, b.other_words.n) == (0, 3)  # a verdict of its own only in three prompts
    assert (b.judge.value, b.judge.n) == (None, 0)  # the second judge contradicts itself: no verdict to compare with


def test_the_sign_test_is_exact() -> None:
    assert sign_p(0, 0) == 1
    assert sign_p(3, 3) == 1
    assert sign_p(10, 0) == sign_p(0, 10) == pytest.approx(2 / 1024)
    assert sign_p(9, 1) == pytest.approx(2 * 11 / 1024)
