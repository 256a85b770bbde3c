"""Checks of the supervised half."""

from __future__ import annotations

import polars as pl

from cai_assets.defs.checks.common import Verdict, check, nothing_failed
from cai_assets.defs.inputs import registered
from cai_assets.lineage.records import Record
from cai_assets.project import Project


def principles_are_covered(project: Project, record: Record, partition: str | None) -> Verdict:
    drawn = set(project.records.table(record)["principle_id"])
    wanted = {p.id for p in registered(project, str(partition)).taking_part("critique")}
    never = sorted(wanted - drawn)
    text = f"{len(never)} of {len(wanted)} principles were drawn by no row"
    return not never, text, {"never_drawn": ", ".join(never)}


def revisions_changed_something(project: Project, record: Record, _: str | None) -> Verdict:
    frame = project.records.table(record)
    usable = frame.filter(pl.col("revision").is_not_null())
    changed = usable.filter(pl.col("revision") != pl.col("before")).height
    numbers = {"rows": frame.height, "usable": usable.height, "changed": changed}
    return changed > 0, f"{changed} of {frame.height} revisions differ from the text they revise", numbers


def has_training_rows(project: Project, record: Record, _: str | None) -> Verdict:
    rows = record.rows or 0
    return rows > 0, f"{rows} training rows", {"rows": rows}


def nothing_is_truncated(project: Project, record: Record, _: str | None) -> Verdict:
    frame = project.records.table(record)
    cut = frame.filter(pl.col("finish") == "length").height
    text = f"{cut} of {frame.height} responses were cut by generation.max_tokens; raise it to train on whole answers"
    return cut == 0, text, {"truncated": cut, "rows": frame.height}


checks = [
    check("critiques", "nothing_failed", nothing_failed, description="Every model call came back"),
    check("critiques", "principles_are_covered", principles_are_covered,
          description="Every principle that can be drawn was drawn by some row"),
    check("revisions", "revisions_changed_something", revisions_changed_something, blocking=True,
          description="Some revision differs from the text it revises"),
    check("sl_dataset", "has_training_rows", has_training_rows, blocking=True,
          description="There is something to train on"),
    check("sl_dataset", "nothing_is_truncated", nothing_is_truncated,
          description="No training response was cut by the token limit"),
]
