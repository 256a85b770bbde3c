"""Checks of the supervised half."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from cai_assets.defs.checks.common import (
    NOTHING_IS_LOST,
    ROWS_FIT,
    Judge,
    Verdict,
    ability_is_kept,
    check,
    nothing_failed,
    nothing_is_lost,
    rows_fit,
)
from cai_assets.defs.checks.reinforcement import as_verdict
from cai_assets.defs.run import registered
from cai_assets.evals.collapse import collapse
from cai_assets.pipeline.project import Project
from cai_assets.reports.escape import inline
from cai_assets.reports.text.tables import Live, table
from cai_assets.steps.hygiene import KINDS, Finding, Tables, inspect
from cai_assets.store.records import Record
from cai_assets.store.tables import Table


def principles_are_covered(project: Project, record: Record, partition: str | None) -> Verdict:
    drawn = set(project.records.stored(record).read("principle_id")["principle_id"])
    wanted = {p.id for p in registered(project, str(partition)).taking_part("critique")}
    never = sorted(wanted - drawn)
    text = f"{len(never)} of {len(wanted)} principles were never drawn"
    return not never, text, {"never_drawn": ", ".join(never)}


def revisions_changed_something(project: Project, record: Record, _: str | None) -> Verdict:
    made = project.records.stored(record)
    usable = made.count(pl.col("revision").is_not_null())
    changed = made.count(pl.col("revision") != pl.col("before"))
    stopped = made.count(pl.col("stopped").is_not_null())
    numbers = {"rows": made.height, "usable": usable, "changed": changed, "stopped": stopped}
    text = f"{changed} of {usable} revisions differ from the text they revise"
    why = f"; {stopped} of {made.height} rows belong to chains that had already stopped (critique.stop_above)"
    return changed > 0, text + (why if stopped else ""), numbers


def answers_have_not_collapsed(project: Project, record: Record, _: str | None) -> Verdict:
    if record.settings.get("sl", {}).get("source") != "in_context":
        return True, "not measured: the answers are revisions (sl.source)", {}
    found = collapse(project.records.table(record), project.settings.monitors, project.settings.evaluation.confidence)
    verdicts = [as_verdict(finding) for finding in found]
    numbers = {name: value for f in found for name, value in ((f.name, f.numbers.get(f.name)), (f"{f.name}_limit",
               f.numbers.get("limit")), (f"{f.name}_state", f.state)) if value is not None}
    return all(passed for passed, _, _ in verdicts), "; ".join(text for _, text, _ in verdicts), numbers


def has_training_rows(project: Project, record: Record, _: str | None) -> Verdict:
    rows = record.rows or 0
    return rows > 0, f"{rows} training rows", {"rows": rows}


def hygiene_of(kind: str) -> Judge:
    """Judge one kind of fault over the newest critiques, revisions and SL rows of a version."""
    def judge(project: Project, record: Record, partition: str | None) -> Verdict:
        def latest(asset: str) -> Table:
            return project.records.stored(project.records.latest(asset, partition))

        tables = Tables(latest("starting_responses"), latest("critiques"), latest("revisions"),
                        project.records.stored(record), registered(project, str(partition)))
        findings = inspect(tables, [kind])
        text = "; ".join(f"{f.found} of {f.rows} rows of {f.table}" for f in findings)
        numbers: dict[str, Any] = {f"share_of_{f.table}": round(f.share, 4) for f in findings}
        return not any(f.above for f in findings), text, {**numbers, "findings": dg.MetadataValue.md(_table(findings))}

    return judge


def _table(findings: list[Finding]) -> str:
    return table(("table", "found", "rows", "share", "limit", "examples"), [
        (f.table, f.found, f.rows, f"{f.share:.1%}", f"{f.limit:.0%}",
         Live("<br>".join(f"`{row}` {inline(text, 100)}" for row, text in f.examples))) for f in findings])


checks = [
    check("critiques", "nothing_failed", nothing_failed, description="Every model call succeeded"),
    check("critiques", "principles_are_covered", principles_are_covered,
          description="Every principle that can be drawn was drawn by at least one row"),
    check("revisions", "revisions_changed_something", revisions_changed_something, blocking=True,
          description="At least one revision differs from the text it revises"),
    check("revisions", "answers_have_not_collapsed", answers_have_not_collapsed,
          description="Of answers in context (sl.source): no evidence that more of them nearly repeat one to another "
                      "prompt than monitors.sameness_growth allows, or that they lost more words than "
                      "monitors.shortening"),
    check("sl_dataset", "has_training_rows", has_training_rows, blocking=True,
          description="There is at least one row to train on"),
    check("sl_dataset", "nothing_is_lost", nothing_is_lost, blocking=True, description=NOTHING_IS_LOST),
    *(check("sl_dataset", name, hygiene_of(name),
            description=f"At most {kind.limit:.0%} of the rows in each table have this defect: {kind.about}")
      for name, kind in KINDS.items()),
    check("spec_documents", "nothing_failed", nothing_failed, description="Every model call succeeded"),
    check("mid_policy", "ability_is_kept", ability_is_kept,
          description="Perplexity on general text grew by at most a factor of monitors.perplexity_growth"),
    check("mid_policy", "rows_fit", rows_fit, description=ROWS_FIT),
    check("sl_policy", "ability_is_kept", ability_is_kept,
          description="Perplexity on general text grew by at most a factor of monitors.perplexity_growth"),
    check("sl_policy", "rows_fit", rows_fit, description=ROWS_FIT),
    check("sft_baseline", "rows_fit", rows_fit, description=ROWS_FIT),
]
