"""Maintain the row store (statistics, verification, compaction, garbage collection), and copy a data root."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cai_assets.cli.common import AsJson, Commands, app, open_project, out, read_settings
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.settings import SettingsError, storage_url
from cai_assets.store import compaction, copying, garbage, upkeep
from cai_assets.store.layout import open_storage
from cai_assets.store.storage import Storage


class StoreCommands(Commands):
    """Commands whose errors are of the store itself."""

    def exit_code(self, error: Exception) -> int:
        """1: something is wrong with the store, or at work on it; 2: with the settings."""
        return 2 if isinstance(error, SettingsError) else 1


store = typer.Typer(cls=StoreCommands, no_args_is_help=True, help=__doc__)
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


@store.command()
def copy(
    source: Annotated[str, typer.Argument(
        metavar="FROM", help="A data root: a folder, or a URL such as s3://BUCKET/PREFIX")],
    target: Annotated[str, typer.Argument(
        metavar="TO", help="Where to copy it: a folder or a URL, empty or begun before")],
) -> None:
    """Copy a data root, each file verified by its digest. An interrupted copy goes on where it was."""
    done = copying.copy_root(_place(source), _place(target), told=lambda line: out.print(line, highlight=False))
    out.print(f"{done.files} files ({done.bytes / 1e6:.1f} MB) copied, {done.there} were there already",
              highlight=False)
    if done.left:
        out.print(f"not copied: {', '.join(f'{name}/' for name in done.left)} (models are made ready again where they "
                  "are used; unfinished work stays)", highlight=False)
    out.print(f"Set [b]CAI_DATA_ROOT[/b] to {target} to use it; [b]cai verify[/b] compares it with its records")


def _place(text: str) -> Storage:
    try:
        return open_storage(storage_url(text) if "://" in text else text)
    except ValueError as e:
        raise SettingsError(str(e)) from None
