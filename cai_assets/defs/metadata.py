"""What the Dagster UI shows of each asset. Numbers keep one name everywhere, so they plot over versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.defs.columns import about_column
from cai_assets.pipeline.spending import cost
from cai_assets.reports.charts import sparkline
from cai_assets.reports.diff import preview_table, word_diff
from cai_assets.reports.text.tables import table
from cai_assets.settings import Settings
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.parquet import PART_ROWS
from cai_assets.store.records import Record
from cai_assets.store.tables import Held, Table

FATES = {"rows_cut": "rows_cut", "rows_left_out": "rows_dropped"}  # of rows longer than max_length: metadata, metric


def table_metadata(record: Record, made: Table) -> dict[str, Any]:
    """Rows and columns, in the keys that Dagster draws."""
    columns = [dg.TableColumn(n, str(t), description=about_column(record.asset, n))
               for n, t in made.head(0).schema.items()]
    return {
        "dagster/row_count": made.height,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "file": dg.MetadataValue.path(str(made.path)),
        "digest": record.digest,
    }


def cost_metadata(record: Record, settings: Settings) -> dict[str, Any]:
    """What it cost, and how much of it was reused."""
    calls = record.reused + record.generated + record.failed
    seconds = record.details.get("engine_seconds", 0.0)
    out: dict[str, Any] = {"seconds": round(record.seconds, 2), "gpu_seconds": round(record.gpu_seconds, 2)}
    if calls:
        out |= {"reused": record.reused, "generated": record.generated, "failed": record.failed,
                "reuse_rate": round(record.reused / calls, 4), "prompt_tokens": record.prompt_tokens,
                "completion_tokens": record.completion_tokens}
    if record.generated and seconds:
        out["tokens_per_second"] = round(record.completion_tokens / seconds, 1)
    usd = cost(settings, record.asset, record.gpu_seconds, record.prompt_tokens, record.completion_tokens)
    if usd is not None:
        out["cost_usd"] = round(usd, 4)
    if record.details.get("errors"):
        out["failures"] = dg.MetadataValue.json(record.details["errors"])
    if record.details.get("adapted"):
        out["calls_adapted"] = dg.MetadataValue.json(record.details["adapted"])
    if record.details.get("servers"):
        out["servers"] = dg.MetadataValue.json(record.details["servers"])
    return out


def plan_metadata(plan: dict[str, Any] | None) -> dict[str, Any]:
    """The plan as a table, and its sums as numbers."""
    if plan is None:
        return {}
    rows = []
    for x in plan["lines"]:
        low, high = x["generate_min"], x["generate_max"]
        calls = ("", "") if x["training"] else (x["reuse"], high if low == high else f"{low}–{high}")
        seconds = "?" if x["seconds"] is None else f"{x['seconds']:.0f}"
        rows.append((x["asset"], *calls, x["training"], seconds))
    causes = {f"{x['asset']}: {cause}": n for x in plan["lines"] for cause, n in x["causes"].items()}
    return {
        "plan": dg.MetadataValue.md(table(("asset", "reuse", "generate", "training", "seconds"), rows)),
        "plan_causes": dg.MetadataValue.json(causes),
        "planned_rows_at_most": sum(x["generate_max"] for x in plan["lines"]),
        "planned_seconds_at_most": float(sum(x["seconds"] or 0 for x in plan["lines"])),
    }


def against_plan(record: Record, plan: dict[str, Any] | None) -> dict[str, Any]:
    """What was planned for this asset, beside what was done."""
    line = next((x for x in (plan or {}).get("lines", []) if x["asset"] == record.asset), None)
    if line is None:
        return {}
    return {"planned": _calls_planned(record, line), **_spent_as_planned(record, line)}


def _calls_planned(record: Record, line: Mapping[str, Any]) -> str:
    if line["training"]:
        done = "reuse" if record.details["reused_checkpoint"] else "train"
        return f"{line['training']}; done: {done}"
    low, high = line["generate_min"], line["generate_max"]
    bounds = str(high) if low == high else f"{low} to {high}"
    return (f"generate {bounds}, reuse {line['reuse']}; done: generated {record.generated}, "
            f"reused {record.reused}, failed {record.failed}")


def _spent_as_planned(record: Record, line: Mapping[str, Any]) -> dict[str, str]:
    """Seconds, tokens and memory, planned and used; nothing of a plan of an earlier release, or of what was reused."""
    metrics = record.details.get("metrics", {})
    if record.details.get("reused_checkpoint"):
        return {}
    used = {"seconds": record.details.get("engine_seconds"), "memory": metrics.get("memory_peak"),
            "tokens": metrics.get("tokens") if line["training"] else record.completion_tokens}
    return {f"planned_{name}": f"at most about {line[name]:,.0f}; used: {value:,.0f}"
            for name, value in used.items() if value is not None and line.get(name)}


def revision_preview(responses: Table, revisions: Table) -> dict[str, Any]:
    """A few chains: the table, and the change from the initial response to the last revision."""
    revised = revisions.head(PART_ROWS, "prompt_id", "round", "principle_id", "revision",
                             where=pl.col("revision").is_not_null())
    last = revised.group_by("prompt_id", maintain_order=True).last().head(3)
    if not last.height:
        return {}
    sample = last.join(responses.read("prompt_id", "messages", "response", where=pl.col("prompt_id").is_in(
        last["prompt_id"].to_list())), on="prompt_id")
    rows = [{"prompt": r["messages"][-1]["content"], "initial": r["response"], "revision": r["revision"],
             "principle": r["principle_id"]} for r in sample.iter_rows(named=True)]
    first = rows[0]
    return {
        "sample": dg.MetadataValue.md(preview_table(rows)),
        "initial_to_revision": dg.MetadataValue.md(word_diff(first["initial"], first["revision"])),
    }


def text_preview(made: pl.DataFrame | Table, columns: dict[str, str], rows: int = 3, *, text: str = ""
                 ) -> dict[str, Any]:
    """The first rows (that have ``text``) of some text columns (column -> heading) as a table."""
    rows_of = Held(made) if isinstance(made, pl.DataFrame) else made
    first = rows_of.head(rows, *columns, where=pl.col(text).is_not_null() if text else None)
    sample = [{heading: _text(r[name]) for name, heading in columns.items()} for r in first.iter_rows(named=True)]
    return {"sample": dg.MetadataValue.md(preview_table(sample))} if sample else {}


def notes_metadata(notes: Sequence[str]) -> dict[str, Any]:
    """What of the files of rows was not read; nothing if all was."""
    return {"not_read": dg.MetadataValue.json(list(notes))} if notes else {}


def fit_metadata(checkpoint: Checkpoint) -> dict[str, int]:
    """How many rows were longer than ``max_length``, if they were counted."""
    counted = "fit" in checkpoint.metrics
    return {name: checkpoint.metrics[metric] for name, metric in FATES.items() if counted}


def curve_metadata(checkpoint: Checkpoint, names: tuple[str, ...]) -> dict[str, Any]:
    """One small chart for each curve that was logged more than once, and its last value, to four digits."""
    out: dict[str, Any] = {}
    for name in names:
        values = [float(c[name]) for c in checkpoint.curves if c.get(name) is not None]
        if len(values) > 1:
            out[f"{name}_curve"] = dg.MetadataValue.md(sparkline(values, label=name))
        if values:
            out[f"{name}_last"] = float(f"{values[-1]:.4g}")
    return out


def _text(value: Any) -> str:
    if isinstance(value, list):  # a conversation: its last turn
        return str(value[-1]["content"]) if value else ""
    return "" if value is None else str(value)
