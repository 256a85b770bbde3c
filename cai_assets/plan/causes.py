"""Why rows are missing: which principle, or which setting, differs from what was materialised before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.model import Constitution, Use
from cai_assets.lineage.records import Record


def principle_causes(rows: pl.DataFrame, before: Constitution | None, now: Constitution, use: Use) -> dict[str, int]:
    """Missing rows by the principle they drew, and what happened to that principle. ``rows`` has principle_id."""
    counts = Counter(rows["principle_id"].to_list())
    return {f"principle {i} ({_change(i, before, now, use)})": n for i, n in sorted(counts.items())}


def _change(principle_id: str, before: Constitution | None, now: Constitution, use: Use) -> str:
    if before is None:
        return "no version before"
    old = {p.id: p for p in before.taking_part(use)}
    if principle_id not in old:
        return "added"
    if principle_digest(old[principle_id], use) != principle_digest(now.principle(principle_id), use):
        return "edited"
    return "text unchanged: its draw moved, or the row was never generated"


def setting_changes(before: Record | None, now: Mapping[str, Any]) -> list[str]:
    """Settings that differ from those of an earlier record, as 'generation.max_tokens: 64 -> 96'."""
    if before is None:
        return []
    return [f"{name}: {old} -> {new}" for name, old, new in _differences(before.settings, now, "")]


def _differences(old: Any, new: Any, path: str) -> list[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [d for key in sorted(set(old) & set(new)) for d in _differences(old[key], new[key], f"{path}.{key}")]
    return [] if old == new else [(path.removeprefix("."), old, new)]
