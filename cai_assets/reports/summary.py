"""What was made for a version, or by one run, asset by asset, from the newest records."""

from __future__ import annotations

from typing import NamedTuple

from cai_assets.assets import ASSETS, partition_of
from cai_assets.pipeline.project import Project
from cai_assets.store.records import RecordMissing

TOLD = "told"  # of a record's details: lines that were said when it was made, such as why rows were rejected


class Line(NamedTuple):
    """One asset that a run made: its rows, the calls behind them, what was trained, what was said."""

    asset: str
    rows: int | None
    reused: int
    generated: int
    failed: int
    tokens: int
    seconds: float
    made: str
    path: str
    told: tuple[str, ...] = ()

    def reused_whole(self) -> Line:
        """The same where everything is there already."""
        return self._replace(reused=self.reused + self.generated, generated=0, tokens=0, seconds=0.0,
                             made="table" if self.made == "table" else "reused")

    @property
    def text(self) -> str:
        """The rows and what they took: '48 rows: 36 reused, 12 generated · 512 tokens'."""
        rows = "" if self.rows is None else f"{self.rows} row{'' if self.rows == 1 else 's'}"
        if self.made != "table":
            return f"{'trained' if self.made == 'trained' else 'the checkpoint is reused,'} on {rows}"
        calls = [f"{n} {what}" for n, what in ((self.reused, "reused"), (self.generated, "generated"),
                                               (self.failed, "failed")) if n]
        tokens = f" · {self.tokens} tokens" if self.generated else ""
        return rows + (f" from {' and '.join(calls)} calls" if calls else "") + tokens


def summary(project: Project, version: str, run_id: str | None = None) -> list[Line]:
    """One line for each asset that the run made, in the order of the graph; without one, for each that is made."""
    return [line for asset in ASSETS if (line := made_by(project, asset, version, run_id))]


def made_by(project: Project, asset: str, version: str, run_id: str | None) -> Line | None:
    """What the run made of an asset, or any run; None if it has not made it."""
    try:
        r = project.records.latest(asset, partition_of(asset, version))
    except RecordMissing:
        return None
    if run_id is not None and r.run_id != run_id:
        return None
    trained = "reused_checkpoint" in r.details
    made = ("reused" if r.details["reused_checkpoint"] else "trained") if trained else "table"
    return Line(asset, r.rows, r.reused, r.generated, r.failed, r.completion_tokens, r.seconds, made,
                str(project.layout.absolute(r.path)), tuple(r.details.get(TOLD, ())))
