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


def judge_items(
    items: Sequence[Item], against: References, requests: Sequence[str], columns: Columns, ask: Ask, style: Style
) -> None:
    """Ask ``requests[i]`` about item i and the other answer; what cannot be graded has an error and no outcome."""
    comparisons = [Comparison(i["messages"], i["response"], against.get((i["prompt_id"], i["sample"])), request)
                   for i, request in zip(items, requests, strict=True)]
    for item, verdict in zip(items, judge(comparisons, ask=ask, style=style), strict=True):
        item.update(zip(columns, (verdict.p_a, verdict.outcome, verdict.word, verdict.error, *verdict.keys),
                        strict=True))
