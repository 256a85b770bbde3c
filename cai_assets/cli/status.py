"""``cai status``: which versions there are, what of each is made, what runs, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cai_assets.assets import GRAPH
from cai_assets.cli.common import AsJson, app, open_project, out, read_settings
from cai_assets.reports.text.terminal import terminal_table

if TYPE_CHECKING:
    from cai_assets.defs.latest_runs import LatestRun
    from cai_assets.pipeline.project import Project
    from cai_assets.versions.places import Place

RUNNING = {"STARTING", "STARTED", "QUEUED", "CANCELING"}


class Shown(NamedTuple):
    """A version, as ``reports.standings`` tells it, its place among those of its constitution, and its newest run."""

    version: str
    place: Place
    made: int
    run: LatestRun | None
    note: str
    of: int


@app.command()
def status(
    all_: Annotated[bool, typer.Option("--all", help="Also archived and derived versions")] = False,
    json_: AsJson = False,
) -> None:
    """Which versions there are, newest first, what of each is made, and what runs now."""
    from cai_assets.reports.standings import current_files

    project = open_project(read_settings({}))
    files = dict(current_files(project))
    every = list(_shown(project, set(files.values())))
    shown = [s for s in every if all_ or s.note in {"", "current"}]
    new = sorted(files.keys() - {name for name, key in files.items() if key in {s.version for s in every}})
    if json_:
        typer.echo(json.dumps({"versions": [_as_dict(s) for s in shown], "assets": sum(a.versioned for a in GRAPH),
                               "not_registered": new}, indent=1))
        return
    whole = {"version", "place", "made"}
    table = terminal_table("version", "place", "registered", "made", "last run", "note", right={"made"}, whole=whole)
    for s in shown:
        run = f"{s.run.status.lower()} {s.run.began}" if s.run else ""
        table.add_row(s.version, s.place.ordinal, s.place.day, f"{s.made}/{s.of}", run, s.note)
    if shown:
        out.print(table)
    for line in _next(shown, new):
        out.print(line, highlight=False, soft_wrap=True)


def _next(shown: list[Shown], new: list[str]) -> Iterator[str]:
    for s in shown:
        if s.run and s.run.status in RUNNING:
            yield f"{s.version} is being made: watch it in [b]cai ui[/b], run {s.run.id[:8]}"
    if new:
        yield f"Not registered yet: {', '.join(new)}. Next: [b]cai plan NAME[/b], or [b]cai register[/b]"
    unmade = next((s for s in shown if not s.made), None)
    if unmade:
        yield f"Next: [b]cai materialize {unmade.version}[/b]"
    elif not shown and not new:
        yield "No constitution yet: write constitutions/NAME.yaml, or import one with [b]cai import[/b]"


def _shown(project: Project, current: set[str]) -> Iterator[Shown]:
    from cai_assets.defs.latest_runs import latest_at_home
    from cai_assets.reports.standings import standings
    from cai_assets.versions.places import places

    runs = latest_at_home()
    known = places(project.snapshots)
    for version, made, note, of in standings(project, current):
        yield Shown(version, known[version], made, runs.get(version), note, of)


def _as_dict(s: Shown) -> dict[str, Any]:
    place = {"number": s.place.number, "of": s.place.of, "registered": s.place.day or None}
    return {**s._asdict(), "place": place, "run": s.run._asdict() if s.run else None}
