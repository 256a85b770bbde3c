"""What became of rows that are longer than ``max_length``: cut at a turn, or left out. Never in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

PART = "part"  # the column of a job's data that says what kind of row each is
READ, CUT, DROPPED = "read", "cut", "dropped"
Ids = list[int]
Fit = Counter[tuple[str, str]]
"""Rows by part of the data and by what became of them: READ counts all, CUT and DROPPED those that were too long."""


class Encoded(NamedTuple):
    """A row that fits. ``responses`` follow the same prompt, which is ``cut`` if it lost its earliest turns, and the
    same ``thought``."""

    prompt: Ids
    responses: list[Ids]
    cut: bool
    thought: Ids = []  # noqa: RUF012 - never changed


def count(row: Encoded | None, fit: Fit, part: str) -> TypeGuard[Encoded]:
    """Count a row, None if it does not fit; return whether it does."""
    fit[part, READ] += 1
    if row is None or row.cut:
        fit[part, DROPPED if row is None else CUT] += 1
    return row is not None


def metrics(fit: Fit) -> dict[str, Any]:
    """In all, and by part."""
    parts = {part: {fate: fit[part, fate] for fate in (READ, CUT, DROPPED)} for part in sorted({p for p, _ in fit})}
    return {f"rows_{fate}": sum(n[fate] for n in parts.values()) for fate in (READ, CUT, DROPPED)} | {"fit": parts}


def too_long(metrics: Mapping[str, Any], limit: str = "max_length") -> str:
    """What to say of the rows that were cut or left out; '' if none was, or if an earlier release did not count them.
    ``limit``: the setting."""
    if not metrics.get("rows_cut", 0) + metrics.get("rows_dropped", 0) or "fit" not in metrics:
        return ""
    each = "; ".join(f"{part}: {n[DROPPED]} and {n[CUT]} of {n[READ]}" for part, n in metrics["fit"].items())
    return (f"{metrics['rows_dropped']} of {metrics['rows_read']} rows dropped and {metrics['rows_cut']} without their "
            f"earliest turns: they are longer than {limit} ({each})")
