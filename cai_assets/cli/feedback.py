"""``cai feedback``: AI feedback against human feedback, from what was measured."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from cai_assets.cli import complete
from cai_assets.cli.common import Set, app, open_project, out, parse_overrides, read_settings
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.store.records import RecordMissing


@app.command()
def feedback(
    version: Annotated[str, typer.Argument(help="A version with materialized preference_pairs",
                                           autocompletion=complete.versions)],
    set_: Set = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Compare AI labels with human labels: speed, cost, consistency, agreement, and what was actually measured."""
    from cai_assets.reports.feedback_cost import as_json, feedback_table

    try:
        lines = feedback_table(open_project(read_settings(parse_overrides(None, set_))), version)
    except RecordMissing as e:
        raise RecordMissing(f"{e} (cai materialize {version})") from None
    if json_:
        out.print_json(json.dumps(as_json(lines)))
        return
    table = terminal_table("quantity", "AI labeler", "people", "based on", title=f"feedback of {version}")
    for line in lines:
        table.add_row(*map(escape, line))
    out.print(table)
    out.print("Prices are assumptions: set them with [b]--set price_per_gpu_hour=2 --set price_per_human_hour=15[/b]")
