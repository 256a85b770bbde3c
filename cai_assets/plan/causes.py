"""Why rows are missing: which principle, or which setting, differs from what was materialized before.

A frame of what waits has ``principle_id``, null where all principles are in one question, and may have ``calls``, the
calls that wait with it (one, unless told), and ``drawn_before``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.draw import draw
from cai_assets.constitution.model import Constitution, Use
from cai_assets.pipeline.contents import Contents, Named, change, comparable, of_record
from cai_assets.settings.address import shown
from cai_assets.store.records import Record

NEVER = "no stored row: never generated, or it failed"


def drawn_before(
    rows: pl.DataFrame, before: Constitution | None, use: Use, key: Callable[[Mapping[str, Any]], str]
) -> pl.DataFrame:
    """Add ``drawn_before``: the principle that these rows draw in the version before. ``key``: of a row's draw."""
    old = before.taking_part(use) if before else ()
    drawn = [draw(old, key(row)).id if old else None for row in rows.iter_rows(named=True)]
    return rows.with_columns(pl.Series("drawn_before", drawn, dtype=pl.String))


def principle_causes(rows: pl.DataFrame, before: Constitution | None, now: Constitution, use: Use) -> dict[str, int]:
    """Missing calls by the principle they drew, and what happened to that principle."""
    waiting: Counter[tuple[str | None, str | None]] = Counter()
    for row in rows.iter_rows(named=True):
        waiting[row["principle_id"], row.get("drawn_before")] += row.get("calls", 1)
    counts: Counter[str] = Counter()
    for (principle, was), calls in waiting.items():  # what happened to a principle is asked once, not for each row
        if principle is not None:
            counts[f"principle {principle} ({_change(principle, was, before, now, use)})"] += calls
    together = sum(calls for (principle, _), calls in waiting.items() if principle is None)
    return dict(sorted(counts.items())) | ({"all principles, in one question": together} if together else {})


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
    return {**dict.fromkeys(changes, sum(drawn.values())), **changed}


def _change(principle_id: str, was: str | None, before: Constitution | None, now: Constitution, use: Use) -> str:
    if before is None:
        return "no earlier version"
    old = {p.id: p for p in before.taking_part(use)}
    if principle_id not in old:
        return "added"
    if principle_digest(old[principle_id], use) != principle_digest(now.principle(principle_id), use):
        return "edited"
    if was not in {None, principle_id}:
        return "drawn in place of another"
    shots = [c.few_shots.revision if use == "critique" else c.few_shots.preference for c in (before, now)]
    reason = "the few-shot examples were edited" if shots[0] != shots[1] and use != "evaluation" else ""
    return reason or f"unchanged; {NEVER}"


def setting_changes(before: Record | None, now: Mapping[str, Any], contents: Contents | None = None) -> list[str]:
    """Settings that differ from those of an earlier record, as 'generation.max_tokens: 64 -> 96'.

    ``contents``: what the files hold that ``now`` names; a path is no difference.
    """
    if before is None:
        return []
    then, here = comparable(of_record(before), Named(now, contents or {}))
    if before.settings and "seed" in before.details:  # whoever reads settings samples or trains, by that seed
        then = {**then, "seed": before.details["seed"]}
    return [shown(change(name, old, new)) for name, old, new in _differences(then, here, "")]


def _differences(old: Any, new: Any, path: str) -> list[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [d for key in sorted(set(old) & set(new)) for d in _differences(old[key], new[key], f"{path}.{key}")]
    if _groups(old) and _groups(new) and len(old) == len(new):
        return [d for i, (o, n) in enumerate(zip(old, new, strict=True)) for d in _differences(o, n, f"{path}.{i}")]
    return [] if old == new else [(path.removeprefix("."), old, new)]


def _groups(value: Any) -> bool:
    """Whether it is a list of settings groups, such as ``supervised.mix``."""
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
