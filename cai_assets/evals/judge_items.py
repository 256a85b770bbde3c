"""Items of an evaluation, judged against another policy's response to the same prompt and sample.

An item is one response of one policy as a dictionary; judging adds keys to it, which become columns of its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cai_assets.engines.protocol import Style
from cai_assets.evals.judge import Ask, Comparison, Verdict, judge, judging
from cai_assets.steps.complete import Completer, Work

Item = dict[str, Any]
References = Mapping[tuple[str, int], Item]  # by prompt id and sample


class Columns(NamedTuple):
    """The names under which a verdict is stored: the item's probability of winning, its outcome, and so on."""

    p: str
    outcome: str
    verdict: str
    error: str
    first: str
    second: str


def references(items: Sequence[Item], policy: str) -> References:
    """A policy's items."""
    return {(i["prompt_id"], i["sample"]): i for i in items if i["policy"] == policy}


class Judging(NamedTuple):
    """``request`` is asked about an item's answer and the other one's, where there is one; the verdict is stored under
    ``columns``. What cannot be graded has an error and no outcome."""

    item: Item
    other: Item | None
    request: str
    columns: Columns

    @property
    def answered(self) -> bool:
        """Whether both answers are there, or have failed."""
        return all("response" in item for item in (self.item, self.other) if item is not None)

    @property
    def comparison(self) -> Comparison:
        other = None if self.other is None else self.other["response"]
        return Comparison(self.item["messages"], self.item["response"], other, self.request)

    def told(self, verdict: Verdict) -> None:
        self.item.update(zip(self.columns, (verdict.p_a, verdict.outcome, verdict.word, verdict.error, *verdict.keys),
                             strict=True))


def judge_items(judgings: Sequence[Judging], ask: Ask, style: Style) -> None:
    """Ask all of it together."""
    for one, verdict in zip(judgings, judge([j.comparison for j in judgings], ask=ask, style=style), strict=True):
        one.told(verdict)


class Judgings:
    """What can be judged of items that are answered one after the other."""

    def __init__(self, judgings: Iterable[Judging], *, judge: Completer, style: Style) -> None:
        self._judge, self._style = judge, style
        self._about: dict[int, list[Judging]] = {}
        for one in judgings:
            for item in (one.item, one.other):
                if item is not None:
                    self._about.setdefault(id(item), []).append(one)

    def of(self, answered: Item) -> Iterator[Work[None]]:
        """What was waiting for this item, the last of its answers to come."""
        for one in self._about.get(id(answered), []):
            if one.answered:
                yield from judging(one.comparison, complete=self._judge, style=self._style, told=one.told)
