"""Which principles contradict each other, and how clear each one is: from the rows of ``stress.py``.

Responses to one prompt are compared two by two, disjoint. A principle prefers the one to which it gives more in both of
its orders, and is undecided where these disagree; two principles are *opposed* where they prefer different ones. If
the principles have nothing to do with each other, opposed and agreeing are equally likely, however often each
principle says yes, because samples of one prompt are exchangeable. So the share of opposed comparisons is tested
against one half, by the signs of the prompts (exact), and adjusted for the number of pairs (Holm 1979). Disagreement
on trade-off prompts tells contradictions from unclear words as in Zhang et al. 2025 (arXiv 2510.07686, section 4);
*ambiguity* is how often one principle contradicts itself: in its two orders, in other words, by another judge.

Guarantees: pure; prompts are what is counted; what is ungraded or undecided is counted and is no verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import polars as pl

from cai_assets.evals.power import detectable_sign
from cai_assets.evals.statistics import FEW, Estimate, clustered_mean, holm, sign_p
from cai_assets.evals.stress import BY_JUDGE

OPPOSED: Final = "opposed"
AGREE: Final = "agree"
NOTHING_SEEN: Final = "no conflict seen"
EQUAL = 1e-9
SHOWN = 3  # examples of a pair
Conflict = Literal["opposed", "agree", "no conflict seen", "too few to tell"]
Answers = Literal["both", "first", "second", "neither", "unclear"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """Two responses on which the principles are opposed: ``kept_first`` is the one that the first principle prefers.
    ``apart``: how far apart the principle that is less sure puts them, in probability."""

    prompt_id: str
    prompt: str
    kept_first: str
    kept_second: str
    apart: float


@dataclass(frozen=True)
class Pair:
    """Two principles. ``comparisons``: of two responses, of which so many are ``undecided`` or ``ungraded``.
    ``opposed``: the share of the decided ones, over prompts; ``p_holm``: None where there are too few to tell.
    ``leaning``: the prompts that count in the test, with more opposed comparisons than agreeing ones or fewer;
    ``detectable``: the smallest true share of such prompts, opposed or agreeing, that so many (or ``enough``, where
    there are fewer decided ones) find among so many pairs; None if none is found. ``answers``: by which principles
    single responses are good ones."""

    first: str
    second: str
    prompts: int
    comparisons: int
    undecided: int
    ungraded: int
    opposed: Estimate
    p: float
    leaning: int
    detectable: float | None
    p_holm: float | None
    verdict: Conflict
    answers: Mapping[Answers, int]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Clarity:
    """How often a principle contradicts itself, over prompts: between its ``orders``; where both readings have a
    verdict, in ``other_words`` and by a second ``judge``."""

    principle: str
    orders: Estimate
    other_words: Estimate
    judge: Estimate


@dataclass(frozen=True)
class Conflicts:
    """The pairs in the order of the rows, and the principles by id."""

    pairs: tuple[Pair, ...]
    principles: tuple[Clarity, ...]

    @property
    def opposed(self) -> list[Pair]:
        """The pairs found to contradict each other, the strongest first."""
        found = [p for p in self.pairs if p.verdict == OPPOSED]
        return sorted(found, key=lambda p: (-(p.opposed.low or 0), p.first, p.second))


def conflicts(rows: pl.DataFrame, *, confidence: float, enough: int) -> Conflicts:
    """``rows``: as ROWS. A pair with fewer than ``enough`` decided prompts is too few to tell, and is not tested."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows.iter_rows(named=True):
        groups.setdefault((row["first"], row["second"]), []).append(row)
    pairs = [_pair(first, second, mine, confidence) for (first, second), mine in groups.items()]
    tested = [i for i, pair in enumerate(pairs) if pair.opposed.n >= enough]
    adjusted = dict(zip(tested, holm([pairs[i].p for i in tested]), strict=True))
    every = [row for mine in groups.values() for row in mine]
    names = sorted({name for names in groups for name in names})
    return Conflicts(tuple(_told(pair, adjusted.get(i), enough, (1 - confidence, len({*tested, i})))
                           for i, pair in enumerate(pairs)), tuple(_clarity(name, every, confidence) for name in names))


def _told(pair: Pair, p_holm: float | None, enough: int, level: tuple[float, int]) -> Pair:
    """``level``: of all tests together, and how many these are with this pair's."""
    alpha, tests = level
    if p_holm is None:
        return replace(pair, detectable=detectable_sign(max(pair.leaning, enough), alpha / tests))
    found: Conflict = NOTHING_SEEN if p_holm > alpha else OPPOSED if (pair.opposed.value or 0) > 0.5 else AGREE
    return replace(pair, detectable=detectable_sign(pair.leaning, alpha / tests), p_holm=p_holm, verdict=found)


def _pair(first: str, second: str, rows: Sequence[Row], confidence: float) -> Pair:
    names, by_prompt = (first, second), dict[str, list[Row]]()
    for row in sorted(rows, key=lambda r: (r["prompt_id"], r["sample"])):
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    compared = [(a, b, _sides(a, b, names)) for mine in by_prompt.values()
                for a, b in zip(mine[::2], mine[1::2], strict=False)]
    decided = [(a, b, sides) for a, b, sides in compared if sides and 0 not in sides]
    values = [float(sides[0] != sides[1]) for _, _, sides in decided]
    prompts = [a["prompt_id"] for a, _, _ in decided]
    higher, lower = _leaning(values, prompts)
    return Pair(
        first, second, len(by_prompt), len(compared), sum(s is not None and 0 in s for _, _, s in compared),
        sum(s is None for _, _, s in compared), clustered_mean(values, prompts, confidence),
        sign_p(higher, lower), higher + lower, None, None, FEW, dict(Counter(_kept(row, names) for row in rows)),
        tuple(sorted((_example(a, b, sides, names) for a, b, sides in decided if sides[0] != sides[1]),
                     key=lambda e: (-e.apart, e.prompt_id))[:SHOWN]))


def _leaning(values: Sequence[float], prompts: Sequence[str]) -> tuple[int, int]:
    """How many prompts have more comparisons that are opposed than that agree, and how many fewer."""
    lean: Counter[str] = Counter()
    for value, prompt in zip(values, prompts, strict=True):
        lean[prompt] += 1 if value else -1
    return sum(n > 0 for n in lean.values()), sum(n < 0 for n in lean.values())


def _sides(a: Row, b: Row, names: Sequence[str]) -> tuple[int, int] | None:
    """Which response each principle prefers: 1 the first, -1 the second, 0 neither. None if one could not be read."""
    first, second = (_side(_vote(a, name), _vote(b, name)) for name in names)
    return None if first is None or second is None else (first, second)


def _side(a: Row | None, b: Row | None) -> int | None:
    if a is None or b is None or a["p_yes"] is None or b["p_yes"] is None:
        return None
    by_order = {_sign(a[order] - b[order]) for order in ("p_first", "p_second")}
    return by_order.pop() if len(by_order) == 1 else 0


def _sign(x: float) -> int:
    return 0 if abs(x) <= EQUAL else 1 if x > 0 else -1


def _vote(row: Row, name: str) -> Row | None:
    return next((v for v in row["votes"] if v["principle_id"] == name), None)


def _word(vote: Row | None) -> bool | None:
    """Yes or no, where both orders agree."""
    if vote is None or vote["p_yes"] is None:
        return None
    first, second = vote["p_first"] - 0.5, vote["p_second"] - 0.5
    return None if first * second <= 0 else bool(first > 0)


def _kept(row: Row, names: Sequence[str]) -> Answers:
    kept: dict[tuple[bool | None, ...], Answers] = {
        (True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}
    return kept.get(tuple(_word(_vote(row, name)) for name in names), "unclear")


def _example(a: Row, b: Row, sides: tuple[int, int], names: Sequence[str]) -> Example:
    kept_first, kept_second = (a, b) if sides[0] > 0 else (b, a)
    apart = min(abs(_p_yes(a, name) - _p_yes(b, name)) for name in names)
    return Example(a["prompt_id"], "\n\n".join(m["content"] for m in a["messages"]), kept_first["response"],
                   kept_second["response"], apart)


def _p_yes(row: Row, name: str) -> float:
    vote = _vote(row, name)
    return float(vote["p_yes"]) if vote else 0.0


def _clarity(name: str, rows: Sequence[Row], confidence: float) -> Clarity:
    own = [(row, vote) for row in rows if (vote := _vote(row, name)) and vote["p_yes"] is not None]
    return Clarity(
        name, clustered_mean([float(_word(vote) is None) for _, vote in own], [r["prompt_id"] for r, _ in own],
                             confidence),
        *(_flips([(r["prompt_id"], _word(vote), _word(other)) for r, vote in own for other in r["again"]
                  if other["principle_id"] == name and (other["by"] == BY_JUDGE) == judge], confidence)
          for judge in (False, True)))


def _flips(readings: Sequence[tuple[str, bool | None, bool | None]], confidence: float) -> Estimate:
    both = [(prompt, a != b) for prompt, a, b in readings if a is not None and b is not None]
    return clustered_mean([float(flip) for _, flip in both], [prompt for prompt, _ in both], confidence)
