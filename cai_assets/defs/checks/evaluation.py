"""Checks of the evaluation."""

from __future__ import annotations

import polars as pl

from cai_assets.defs.checks.common import Verdict, check, nothing_failed
from cai_assets.lineage.records import Record
from cai_assets.project import Project


def enough_is_graded(project: Project, record: Record, _: str | None) -> Verdict:
    wins = project.records.table(record).filter(pl.col("metric").str.ends_with("win_rate"))
    graded, ungraded = int(wins["n"].sum()), int(wins["ungraded"].sum())
    text = f"{graded} comparisons graded, {ungraded} ungraded"
    return graded > 0 and ungraded <= 0.1 * (graded + ungraded), text, {"graded": graded, "ungraded": ungraded}


checks = [
    check("evaluation", "nothing_failed", nothing_failed, description="Every model call came back"),
    check("evaluation", "enough_is_graded", enough_is_graded,
          description="At most a tenth of the judge's comparisons are ungraded"),
]
