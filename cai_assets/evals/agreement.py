"""A labeler's agreement with people in detail: against a length rule, by principle, and pair by pair.

Guarantee: everything comes from the rows that ``gate.measure_labeller`` labeled, asked exactly as it is for labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from cai_assets.evals.gate import Bin, GateResult, points, share_of
from cai_assets.evals.power import beside
from cai_assets.evals.statistics import Estimate, Telling, told
from cai_assets.evals.text import words
from cai_assets.settings.method import CONFIDENCE

ENOUGH = 100  # pairs needed before agreement with people is worth a report
LONGER = "a rule that takes the longer response"
TOGETHER = "all principles together"


@dataclass(frozen=True)
class Disagreement:
    """A pair on which the labeler was confident in the response that people rejected. ``sure``: its probability."""

    pair_id: str
    prompt: str
    chosen_by_people: str
    chosen_by_labeller: str
    sure: float


@dataclass(frozen=True)
class Agreement:
    """``longer``: how often people chose the response with more words. ``by_principle``: accuracy by the principle that
    the pair drew."""

    result: GateResult
    longer: Estimate
    by_principle: dict[str, Estimate]
    disagreements: tuple[Disagreement, ...]

    confidence: float = CONFIDENCE

    @property
    def over_a_coin(self) -> Estimate:
        """How much better than a coin the labeler is."""
        e = self.result.accuracy_debiased
        value, low, high = (None if x is None else x - 0.5 for x in (e.value, e.low, e.high))
        return Estimate(value, e.n, low, high)

    @property
    def verdict(self) -> str:
        """Whether the labeler is better or worse than a coin, if the pairs can tell."""
        return told(self.over_a_coin, enough=ENOUGH, better="higher")

    @property
    def beside(self) -> str:
        """What a verdict that claims nothing could have found."""
        return beside(self.verdict, self.over_a_coin, Telling(self.confidence, ENOUGH))


def agreement(result: GateResult, labeled: pl.DataFrame, *, confidence: float = 0.95, shown: int = 10) -> Agreement:
    """``labeled``: the rows that ``result`` was measured on. At most ``shown`` disagreements, the surest first."""
    rows = labeled.to_dicts()
    graded = [r for r in rows if r["p_a"] is not None]
    drew: dict[str, list[float]] = {}
    for r in graded:
        drew.setdefault(r["principle_id"] or TOGETHER, []).append(points(r))
    wrong = sorted((r for r in graded if points(r) == 0), key=lambda r: (-abs(r["p_a"] - 0.5), r["pair_id"]))
    return Agreement(
        result, share_of([_longer(r) for r in rows], confidence),
        {name: share_of(of, confidence) for name, of in sorted(drew.items())},
        tuple(_disagreement(r) for r in wrong[:shown]), confidence)


def bin_accuracy(b: Bin, confidence: float = 0.95) -> Estimate:
    """The accuracy of a bin with its interval."""
    if b.accuracy is None:
        return Estimate(None, 0)
    halves = round(2 * b.accuracy * b.n)  # points are whole or half
    return share_of([1.0] * (halves // 2) + [0.5] * (halves % 2) + [0.0] * (b.n - (halves + 1) // 2), confidence)


def _longer(row: dict[str, Any]) -> float:
    a, b = (len(words(row[side])) for side in ("response_a", "response_b"))
    return 0.5 if a == b else float((a > b) == (row["human"] == "A"))


def _disagreement(row: dict[str, Any]) -> Disagreement:
    ours = "b" if row["human"] == "A" else "a"
    prompt = "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")
    return Disagreement(row["pair_id"], prompt, row[f"response_{'b' if ours == 'a' else 'a'}"], row[f"response_{ours}"],
                        max(row["p_a"], 1 - row["p_a"]))
