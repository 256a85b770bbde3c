"""Tables of Markdown. A text in a cell is shown and never live, whatever it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cai_assets.reports.escape import inline

SHOWN = 900  # characters; Dagster shows Markdown of fewer than 1,000 without a click
NONE = "–"


class Live(str):
    """What a cell shows as it stands: a link of our own making, or a name that settings have checked."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, cell: int = 200) -> str:
    """A table; without rows only its head. ``cell``: characters after which a text is cut; None is a dash."""
    lines = [[_shown(name, cell) for name in columns], ["---"] * len(columns)]
    lines += [[_shown(value, cell) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def short_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, rest: str, cell: int = 200) -> str:
    """At most SHOWN characters: rows are left out from the end, and a last line says that ``rest`` has them."""
    whole = table(columns, rows, cell=cell)
    if len(whole) <= SHOWN:
        return whole
    tables = (f"{table(columns, rows[:n], cell=cell)}\n\nMore in {rest}: {len(rows) - n} rows."
              for n in range(len(rows) - 1, -1, -1))
    return next((text for text in tables if len(text) <= SHOWN), f"More in {rest}: {len(rows)} rows.")


def _shown(value: object, cell: int) -> str:
    if isinstance(value, Live):
        return value
    return NONE if value is None else inline(str(value), cell)
