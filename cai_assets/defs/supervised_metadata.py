"""What the Dagster UI shows of the supervised half: chains that stopped, and files that were mixed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.defs.metadata import notes_metadata
from cai_assets.reports.text.tables import table
from cai_assets.steps.reasons import reason_line
from cai_assets.steps.shares import Report
from cai_assets.store.tables import Table


def stop_metadata(made: Table) -> dict[str, Any]:
    """Chains that had stopped by each round, and the verdicts' mean; nothing if no verdict was asked for."""
    frame = made.read("round", "p_done", "stopped")
    if not frame["p_done"].count() and not frame["stopped"].count():
        return {}
    rounds = frame.group_by("round").agg(
        chains=pl.len(), stopped=pl.col("stopped").count(), asked=pl.col("p_done").count(), p=pl.col("p_done").mean(),
    ).sort("round")
    shown = table(("round", "chains", "without a call", "verdicts", "mean p_done"), [
        (r["round"], r["chains"], r["stopped"], r["asked"], None if r["p"] is None else f"{r['p']:.3f}")
        for r in rounds.iter_rows(named=True)])
    mean = frame["p_done"].mean()
    return {"rounds": dg.MetadataValue.md(shown), "stopped_rows": frame["stopped"].count(),
            **({"mean_p_done": float(mean)} if isinstance(mean, float) else {})}


def mix_notes(reports: Sequence[Report]) -> Iterator[str]:
    """What a person should know of each file that was mixed in; '' where there is nothing."""
    for report in reports:
        yield reason_line(sum(report.rejected.values()), report.read, f"rows of {report.file} rejected",
                          report.rejected)
        yield from (*report.notes, report.warning or "")


def mix_metadata(reports: Sequence[Report]) -> dict[str, Any]:
    """What became of each file that was mixed in."""
    if not reports:
        return {}
    out: dict[str, Any] = {"mix": dg.MetadataValue.md(table(
        ("file", "share", "reached", "rows", "read", "duplicates", "near evaluation", "rejected"),
        [(r.file, f"{r.share:.1%}", f"{r.reached:.1%}", r.rows, r.read, r.duplicates, r.near_evaluation,
          sum(r.rejected.values())) for r in reports]))}
    if warnings := [r.warning for r in reports if r.warning]:
        out["mix_warnings"] = dg.MetadataValue.json(warnings)
    out.update(notes_metadata([note for r in reports for note in r.notes]))
    if rejected := {r.file: dict(r.rejected) for r in reports if r.rejected}:
        out["mix_rejected"] = dg.MetadataValue.json(rejected)
    return out
