"""The tables of commands about lineage."""

from __future__ import annotations

from rich.table import Table

from cai_assets.reports.text.terminal import terminal_table

LEFT = {"checkpoint", "version", "through", "principle", "prompts from", "kind", "category", "broke", "row",
        "to rebuild", "asset", "trained", "held out", "text"}
WHOLE = {"row", "asset", "checkpoint", "principle"}


def table_of(*names: str, title: str | None = None) -> Table:
    return terminal_table(*names, title=title, right={*names} - LEFT, whole=WHOLE)
