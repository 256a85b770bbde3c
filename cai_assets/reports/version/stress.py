"""The section on principles that contradict each other, where a stress test was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from cai_assets.reports.html.page import Block, Source
from cai_assets.reports.stress import blocks
from cai_assets.reports.version.evidence import Evidence


def stress(evidence: Evidence) -> Iterator[Block]:
    """The matrix with its worst examples, and how clear each principle is; nothing without a stress test."""
    if evidence.conflicts:
        yield from blocks(evidence.conflicts, Source(evidence.make("stress"), evidence.rests_on("stress")))
