"""The number format that stored rows and checkpoints were made in, against the one that is used here.

Formats enter every key, so a data root that was made in another one would be made again as a whole. That is never done
in silence: the plan names the format as the cause, and ``keeping`` says which setting keeps what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import polars.selectors as cs

from cai_assets.engines.number_format import number_format
from cai_assets.pipeline.project import Project
from cai_assets.store.parquet import read_parquet, there
from cai_assets.store.records import Record
from cai_assets.store.upkeep import steps

SETTING = "engine.dtype"


def format_change(project: Project, record: Record | None) -> list[str]:
    """'engine.dtype: bfloat16 -> float32' if what the record names was made in another format, else nothing."""
    before = _format_of(project, record) if record else None
    now = number_format(project.settings.engine.dtype).dtype
    return [f"{SETTING}: {before} -> {now}"] if before not in {None, "", now} else []


def keeping(project: Project, causes: Iterable[str]) -> str | None:
    """What to set so that rows and checkpoints of another format are used again; None if no cause is a format."""
    cause = next((c for c in causes if c.startswith(f"{SETTING}: ")), None)
    if cause is None:
        return None
    before = cause.removeprefix(f"{SETTING}: ").partition(" -> ")[0]
    here = number_format(project.settings.engine.dtype)
    return (f"This data root was made in {before}, and {SETTING} is {here.dtype} here because {here.reason}. "
            f"To reuse what is there, set {SETTING}={before} (-s {SETTING}={before}, or in settings.yaml).")


def _format_of(project: Project, record: Record) -> str | None:
    """None where no model in this process made it, and where it cannot be told."""
    checkpoint = project.checkpoints.find(record.asset, record.digest)
    if checkpoint is not None:
        dtype: str | None = checkpoint.record.get("settings", {}).get("dtype")
        return dtype
    key = _first_row_key(project, record)
    for step in steps(project.layout) if key else ():
        for row in project.store.lookup(step, [str(key)]).values():
            stored: str | None = json.loads(row.payload)["model"].get("dtype")
            return stored
    return None


def _first_row_key(project: Project, record: Record) -> str | None:
    """A call behind the asset: of its table, or of the rows that its measurements come from."""
    named = [record.path, *(v for v in record.details.values() if isinstance(v, str) and v.endswith(".parquet"))]
    for path in (p for p in map(project.layout.absolute, named) if p.suffix == ".parquet" and there(p)):
        rows = read_parquet(path).select(cs.starts_with("row_key") & cs.string())
        key: str | None = next((k for column in rows for k in column.drop_nulls() if k), None)
        if key:
            return key
    return None
