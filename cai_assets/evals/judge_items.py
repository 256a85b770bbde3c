"""Items of an evaluation, judged against another policy's response to the same prompt and sample.

An item is one response of one policy as a dictionary; judging adds keys to it, which become columns of its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cai_assets.engines.protocol import Style
from cai_assets.evals.judge import Ask, Comparison, judge

Item = dict[str, Any]
References = Mapping[tuple[str, int], str | None]  # responses by prompt id and sample


class Columns(NamedTuple):
    """The names under which a verdict is stored: the item's probability of winning, its outcome, and so on."""

    p: str
    outcome: str
    verdict: str
    error: str
    first: str
    second: str


def references(items: Sequence[Item], policy: str) -> References:
    """A policy's answer, None where it failed."""
    return {(i["prompt_id"], i["sample"]): i["response"] for i in items if i["policy"] == policy}


class Judging(NamedTuple):
    """``requests[i]`` is asked about item i and the other answer; the verdict is stored under ``columns``."""

    items: Sequence[Item]
    against: References
    requests: Sequence[str]
    columns: Columns


def judge_items(judgings: Sequence[Judging], ask: Ask, style: Style) -> None:
    """Ask all of it together, so that nothing waits for the slowest call of another question; what cannot be graded has
    an error and no outcome."""
    comparisons = [Comparison(i["messages"], i["response"], of.against.get((i["prompt_id"], i["sample"])), request)
                   for of in judgings for i, request in zip(of.items, of.requests, strict=True)]
    places = [(item, of.columns) for of in judgings for item in of.items]
    for (item, columns), verdict in zip(places, judge(comparisons, ask=ask, style=style), strict=True):
        item.update(zip(columns, (verdict.p_a, verdict.outcome, verdict.word, verdict.error, *verdict.keys),
                        strict=True))
