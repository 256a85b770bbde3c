"""The section on principles that contradict each other, where a stress test was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from cai_assets.evals.conflicts import Conflicts, conflicts
from cai_assets.reports.html.page import Block, Source
from cai_assets.reports.stress import blocks
from cai_assets.reports.version.evidence import Evidence


def stressed(evidence: Evidence) -> Conflicts | None:
    """What the stress test found; None where none was asked for."""
    rows = evidence.table("stress")
    return conflicts(rows, confidence=evidence.confidence, enough=evidence.enough) if (
        rows is not None and rows.height) else None


def stress(evidence: Evidence) -> Iterator[Block]:
    """The matrix with its worst examples, and how clear each principle is; nothing without a stress test."""
    found = stressed(evidence)
    if found:
        yield from blocks(found, Source(evidence.make("stress"), evidence.rests_on("stress")))
