"""A person's judgments of the arena, as a file of human comparisons that ``cai agreement`` and the gate read.

Guarantees: the file only grows; texts are those that are stored, never what a page sent; the same judgment counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.store.journal import Journal
from cai_assets.store.layout import Layout
from cai_assets.studio.answers import Answer, Asked

FILE = "human-comparisons.json"
SAME = ("messages", "chosen", "rejected")


class Kept(NamedTuple):
    """How many comparisons a judgment added, and how many there are with them."""

    added: int
    every: int


class Votes:
    """The judgments under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._journal = Journal(layout, FILE)

    @property
    def path(self) -> Path:
        return self._journal.path

    @property
    def count(self) -> int:
        return len(self._journal.entries())

    def add(self, asked: Asked, better: Answer, *, blind: bool) -> Kept:
        """``better`` is preferred to each other answer with other words. They are marked as an evaluation's, so that
        nothing is trained on them."""
        given = [_comparison(asked, better, other, blind) for other in asked.answers if other.text != better.text]
        kept = Kept(0, 0)

        def missing(entries: list[Any]) -> list[dict[str, Any]]:  # under the lock
            nonlocal kept
            new = _missing(given, entries)
            kept = Kept(len(new), len(entries) + len(new))
            return new

        self._journal.extend(missing)
        return kept


def _comparison(asked: Asked, better: Answer, other: Answer, blind: bool) -> dict[str, Any]:
    how = "blind" if blind else "names shown"
    return {"messages": [dict(m) for m in asked.messages], "chosen": better.text, "rejected": other.text,
            "split": "evaluation", "why": f"{better.name} over {other.name}; {how}; "
                                          f"{datetime.now(UTC).isoformat(timespec='seconds')}"}


def _missing(new: Sequence[dict[str, Any]], entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    there = [[entry.get(name) for name in SAME] for entry in entries]
    return [one for one in new if [one[name] for name in SAME] not in there]
