"""Tables of the terminal."""

from __future__ import annotations

from collections.abc import Collection

from rich import box
from rich.markup import escape
from rich.table import Table


def terminal_table(
    *columns: str, title: str | None = None, right: Collection[str] = (), whole: Collection[str] = ()
) -> Table:
    """An empty table; what is too wide for its column goes on in the next line. ``title``: plain text.

    ``right``: columns of numbers; ``whole``: those whose cells stay in one line.
    """
    table = Table(title=None if title is None else escape(title), title_justify="left", box=box.SIMPLE_HEAD,
                  padding=(0, 1, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in whole)
    return table
