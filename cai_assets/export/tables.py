"""Markdown tables for cards. Texts are escaped, never rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cai_assets.reports.text import tables

LONGEST_CELL = 1000


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with texts nearly in full; 'None recorded.' without rows."""
    return tables.table(header, rows, cell=LONGEST_CELL) if rows else "None recorded."


def fact_table(header: Sequence[str], facts: Mapping[str, str]) -> str:
    """A table of two columns."""
    return table(header, sorted(facts.items()))


def setting_rows(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as rows, groups flattened to 'group.name'."""
    rows: list[tuple[str, str]] = []
    for name, value in sorted(settings.items()):
        if isinstance(value, Mapping):
            rows += setting_rows(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows
