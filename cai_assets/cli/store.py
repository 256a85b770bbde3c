"""Commands about the row store: ``cai store stats | verify | compact | gc``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cai_assets.cli.common import AsJson, Commands, app, open_project, out, read_settings
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.settings import SettingsError
from cai_assets.store import compaction, garbage, upkeep


class StoreCommands(Commands):
    """Commands whose errors are of the store itself."""

    def exit_code(self, error: Exception) -> int:
        """1: something is wrong with the store, or at work on it; 2: with the settings."""
        return 2 if isinstance(error, SettingsError) else 1


store = typer.Typer(cls=StoreCommands, no_args_is_help=True,
                    help="Maintain the row store: statistics, verification, compaction, garbage collection.")
app.add_typer(store, name="store")


@store.command()
def stats(json_: AsJson = False) -> None:
    """Show rows, shards, and bytes per step, and whether to compact."""
    counts = ("rows", "shards", "MB", "oldest", "newest")
    table = terminal_table("step", *counts, right=counts)
    steps = upkeep.stats(open_project(read_settings({})).layout)
    if json_:
        typer.echo(json.dumps([{**s._asdict(), "compaction_advised": s.compaction_advised} for s in steps], indent=1,
                              default=str))
        return
    for s in steps:
        ages = [f"{t:%Y-%m-%d %H:%M}" if t else "" for t in (s.oldest, s.newest)]
        table.add_row(s.step, str(s.rows), str(s.shards), f"{s.bytes / 1e6:.1f}", *ages)
    out.print(table)
    for s in (s for s in steps if s.unanswered):
        out.print(f"{s.step}: {s.unanswered} rows {upkeep.NO_ANSWER} and are never used; [b]cai store verify[/b] names "
                  "them and says what to do")
    advised = [s.step for s in steps if s.compaction_advised]
    if advised:
        out.print(f"Compaction advised for {', '.join(advised)} ({upkeep.SMALL_SHARDS} small shards or more): "
                  "[b]cai store compact[/b] makes lookups faster")


@store.command()
def verify(json_: AsJson = False) -> None:
    """Read every row back and check it against its key. Changes nothing; exits with 1 if something is wrong."""
    problems = upkeep.verify(open_project(read_settings({})).layout)
    if json_:
        typer.echo(json.dumps(problems, indent=1))
        raise typer.Exit(1 if problems else 0)
    for problem in problems:
        out.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    out.print(f"{len(problems)} problems" if problems else "every row reads back as written")
    raise typer.Exit(1 if problems else 0)


@store.command()
def compact() -> None:
    """Merge small shards into large ones. Readers and writers can continue meanwhile."""
    layout = open_project(read_settings({})).layout
    for step in upkeep.steps(layout):
        done = compaction.compact(layout, step)
        out.print(f"{step}: {done.before} shards to {done.after}, {done.dropped} later duplicates dropped")


@store.command()
def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Remove them; otherwise only list them")] = False,
    json_: AsJson = False,
) -> None:
    """Find files that no record names and that are older than a day. Use --apply only when nothing runs."""
    project = open_project(read_settings({}))
    items = garbage.gc(project.layout, project.records, apply=apply)
    if json_:
        typer.echo(json.dumps([{**i._asdict(), "removed": apply} for i in items], indent=1, default=str))
        return
    for item in items:
        rows = f", {item.rows} rows" if item.rows else ""
        out.print(f"{item.kind:<10} {item.bytes / 1e6:8.1f} MB  {item.path}{rows}", markup=False, highlight=False,
                  soft_wrap=True)
    verb = "removed" if apply else "would be removed; add --apply to remove them"
    out.print(f"{len(items)} items, {sum(i.bytes for i in items) / 1e6:.1f} MB {verb}")
