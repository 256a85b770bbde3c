"""Why rows are missing: which principle, or which setting, differs from what was materialised before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.model import Constitution, Use
from cai_assets.lineage.records import Record


def principle_causes(rows: pl.DataFrame, before: Constitution | None, now: Constitution, use: Use) -> dict[str, int]:
    """Missing rows by the principle they drew, and what happened to that principle.

    ``rows`` has principle_id, null where all principles are in one question.
    """
    counts = Counter(rows["principle_id"].drop_nulls().to_list())
    together = rows["principle_id"].null_count()
    return {**{f"principle {i} ({_change(i, before, now, use)})": n for i, n in sorted(counts.items())},
            **({"all principles, in one question": together} if together else {})}


def row_causes(
    rows: pl.DataFrame, changes: Sequence[str], before: Constitution | None, now: Constitution, use: Use
) -> dict[str, int]:
    """Why these rows are missing. ``changes``: settings that differ, each of which can touch every row.

    Where both changed, a row that drew a principle which is new or edited is counted under it as well: undoing the
    setting alone would not bring that row back.
    """
    drawn = principle_causes(rows, before, now, use)
    if not changes or not rows.height:
        return drawn
    changed = {cause: n for cause, n in drawn.items() if cause.endswith(("(edited)", "(added)"))}
    return {**dict.fromkeys(changes, rows.height), **changed}


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
