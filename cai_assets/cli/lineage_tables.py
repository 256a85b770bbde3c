"""The tables of commands about lineage."""

from __future__ import annotations

from rich import box
from rich.table import Table


def table_of(*names: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    left = {"checkpoint", "version", "through", "principle", "prompts from", "kind", "category", "broke", "row",
            "to rebuild", "asset", "trained", "held out", "text"}
    for name in names:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold",
                         no_wrap=name in {"row", "asset", "checkpoint", "principle"})
    return table
