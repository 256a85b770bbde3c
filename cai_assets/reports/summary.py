"""What was made for one constitution version, asset by asset, from the newest records."""

from __future__ import annotations

from typing import NamedTuple

from cai_assets.assets import ORDER, partition_of
from cai_assets.pipeline.project import Project
from cai_assets.store.records import RecordMissing

TOLD = "told"  # of a record's details: lines that were said when it was made, such as why rows were rejected


class Line(NamedTuple):
    asset: str
    rows: int | None
    reused: int
    generated: int
    failed: int
    tokens: int
    seconds: float
    made: str
    checkpoint: str
    told: tuple[str, ...] = ()

    def cells(self) -> list[str]:
        calls = self.reused + self.generated + self.failed
        counts = [str(n) if calls else "" for n in (self.reused, self.generated, self.failed, self.tokens)]
        return [self.asset, "" if self.rows is None else str(self.rows), *counts, f"{self.seconds:.1f}", self.made]


def summary(project: Project, version: str) -> list[Line]:
    """One line for each materialized asset, in the order of the graph."""
    lines = []
    for asset in ORDER:
        try:
            r = project.records.latest(asset, partition_of(asset, version))
        except RecordMissing:
            continue
        trained = "reused_checkpoint" in r.details
        made = ("reused" if r.details["reused_checkpoint"] else "trained") if trained else "table"
        path = str(project.layout.absolute(r.path)) if trained else ""
        lines.append(Line(asset, r.rows, r.reused, r.generated, r.failed, r.completion_tokens, r.seconds, made, path,
                          tuple(r.details.get(TOLD, ()))))
    return lines
