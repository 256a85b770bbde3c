"""From log-probabilities to a label: nothing here calls a model, and everything can be recomputed from the table.

Probabilities are of response A, normalized over the two answers. Each order is averaged over principles and samples,
and the label's probability is the mean of both orders (Lee et al. 2023, section 3.1), so that a preference for a
place cancels out. A pair with one answer missing is ungraded: a mean over some of the answers is another quantity.
Where principles of several priorities vote, only the highest tier that is decided counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from cai_assets.steps.compare import p_first
from cai_assets.steps.questions import Order, Question

UNREAD = "the answers' probabilities could not be read"
CALL = pl.Struct({
    "principle_id": pl.String, "order": pl.String, "sample": pl.Int32, "logp_a": pl.Float64, "logp_b": pl.Float64,
    "row_key": pl.String, "thought_key": pl.String,
})
VOTE = pl.Struct({"principle_id": pl.String, "p_a": pl.Float64})
DECIDED = {"decided_by": pl.Int32}  # the tier, 1 the highest, where several priorities vote
SAMPLED = {"read_from": pl.String, "replies_read": pl.Int64, "replies": pl.Int64}


class Answer(NamedTuple):
    """One reading. ``logp_a``, ``logp_b``: natural log-probabilities of the letters that stood for responses A and B,
    None if the call failed; ``error`` then says why. ``thought_key``: the call that gave the reasons. ``sampled``: of
    a labeler without log-probabilities, how many replies named a letter, and how many there were."""

    question: Question
    logp_a: float | None
    logp_b: float | None
    row_key: str
    thought_key: str | None = None
    error: str | None = None
    sampled: tuple[int, int] | None = None

    @property
    def p_a(self) -> float | None:
        """Probability of response A; None if it could not be read."""
        return None if self.logp_a is None or self.logp_b is None else p_first((self.logp_a, self.logp_b))

    def row(self) -> dict[str, object]:
        """As the column ``calls`` keeps it."""
        q = self.question
        return {"principle_id": q.principle_id, "order": q.order, "sample": q.sample, "logp_a": self.logp_a,
                "logp_b": self.logp_b, "row_key": self.row_key, "thought_key": self.thought_key}


def sampling(answers: Sequence[Answer]) -> dict[str, object]:
    """The columns ``SAMPLED``: what a label rests on whose probabilities are shares of sampled replies."""
    counts = [a.sampled for a in answers if a.sampled]
    read, every = (sum(side) for side in zip(*counts, strict=True)) if counts else (0, 0)
    return {"read_from": "samples", "replies_read": read, "replies": every}


def mean_p(answers: Sequence[Answer]) -> float | None:
    """Mean probability of response A; None without answers, or if one of them could not be read."""
    read = [p for a in answers if (p := a.p_a) is not None]
    return sum(read) / len(read) if read and len(read) == len(answers) else None


def by_order(answers: Sequence[Answer], order: Order) -> float | None:
    """``mean_p`` of the answers of one order."""
    return mean_p([a for a in answers if a.question.order == order])


def both_orders(p_a_first: float | None, p_a_second: float | None) -> float | None:
    """The mean over both orders; None if one is missing."""
    return None if p_a_first is None or p_a_second is None else (p_a_first + p_a_second) / 2


def deciding(answers: Sequence[Answer], tiers: Sequence[frozenset[str]], undecided: float) -> tuple[
        Sequence[Answer], int | None]:
    """The answers that count, and the tier (from 1) that decides; all of them and None where no tier does.

    A tier is undecided where its probability is nearer to one half than ``undecided``. One that cannot be read decides
    that the pair is ungraded: a lower tier may not speak in its place.
    """
    for number, tier in enumerate(tiers, 1):
        own = [a for a in answers if a.question.principle_id in tier]
        p = both_orders(by_order(own, "first"), by_order(own, "second"))
        if own and (p is None or abs(p - 0.5) >= undecided):
            return own, number if p is not None else None
    return answers, None


def votes(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """The answer of each principle that was asked separately, as stored in the column ``votes``."""
    each: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.question.principle_id is not None:
            each.setdefault(answer.question.principle_id, []).append(answer)
    return [{"principle_id": i, "p_a": both_orders(by_order(own, "first"), by_order(own, "second"))}
            for i, own in each.items()]


def clamped(p: float | None, clamp: tuple[float, float] | None) -> float | None:
    """The target that is trained on: ``p`` held between the ends of ``clamp``."""
    return p if p is None or clamp is None else min(max(p, clamp[0]), clamp[1])


def verdict(p_a_first: float | None, p_a_second: float | None) -> str:
    """'A' or 'B' if both orders agree, 'tie' if not, 'ungraded' if either is missing."""
    if p_a_first is None or p_a_second is None:
        return "ungraded"
    if p_a_first > 0.5 and p_a_second > 0.5:
        return "A"
    return "B" if p_a_first < 0.5 and p_a_second < 0.5 else "tie"


def why_ungraded(answers: Sequence[Answer]) -> str | None:
    """The first failure among the answers; None if all could be read."""
    if all(a.p_a is not None for a in answers):
        return None
    return next((a.error for a in answers if a.error), UNREAD)
