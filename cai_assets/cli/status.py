"""``cai status``: which versions there are, what of each is made, what runs, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cai_assets.assets import ASSETS
from cai_assets.cli.common import AsJson, app, open_instance, open_project, out, read_settings
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.file_text import FileError
from cai_assets.constitution.files import constitution_files
from cai_assets.constitution.load import load_file
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.versions.archive import Archive
from cai_assets.versions.derived import Derivations

if TYPE_CHECKING:
    from cai_assets.pipeline.project import Project

VERSIONED = sum(asset.versioned for asset in ASSETS.values())
LATEST_RUNS = 200
RUNNING = {"STARTING", "STARTED", "QUEUED", "CANCELING"}


class Run(NamedTuple):
    """The newest run of a version: Dagster's word for how it stands, and when it began."""

    id: str
    status: str
    began: str


class Standing(NamedTuple):
    """A version. ``made``: how many of its assets have a record; ``note``: 'current', 'archived', or what it is of."""

    version: str
    made: int
    run: Run | None
    note: str


@app.command()
def status(
    all_: Annotated[bool, typer.Option("--all", help="Also archived and derived versions")] = False,
    json_: AsJson = False,
) -> None:
    """Which versions there are, newest first, what of each is made, and what runs now."""
    project = open_project(read_settings({}))
    files = dict(_files(project))
    every = list(_standings(project, set(files.values())))
    standings = [s for s in every if all_ or s.note in {"", "current"}]
    new = sorted(files.keys() - {name for name, key in files.items() if key in {s.version for s in every}})
    if json_:
        typer.echo(json.dumps({"versions": [_as_dict(s) for s in standings], "assets": VERSIONED,
                               "not_registered": new}, indent=1))
        return
    table = terminal_table("version", "made", "last run", "began", "note", right={"made"}, whole={"version", "made"})
    for s in standings:
        table.add_row(s.version, f"{s.made}/{VERSIONED}", s.run.status.lower() if s.run else "",
                      s.run.began if s.run else "", s.note)
    if standings:
        out.print(table)
    for line in _next(standings, new):
        out.print(line, highlight=False, soft_wrap=True)


def _next(standings: list[Standing], new: list[str]) -> Iterator[str]:
    for s in standings:
        if s.run and s.run.status in RUNNING:
            yield f"{s.version} is being made: watch it in [b]cai ui[/b], run {s.run.id[:8]}"
    if new:
        yield f"Not registered yet: {', '.join(new)}. Next: [b]cai plan NAME[/b], or [b]cai register[/b]"
    unmade = next((s for s in standings if not s.made), None)
    if unmade:
        yield f"Next: [b]cai materialize {unmade.version}[/b]"
    elif not standings and not new:
        yield "No constitution yet: write constitutions/NAME.yaml, or import one with [b]cai import[/b]"


def _files(project: Project) -> Iterator[tuple[str, str]]:
    """The name of each constitution file that can be read, and the version that it is now."""
    for path in constitution_files(project.settings.constitutions):
        try:
            yield path.stem, partition_key(load_file(path))
        except FileError:
            continue  # 'cai lint' says what is wrong with it


def _standings(project: Project, current: set[str]) -> Iterator[Standing]:
    archived = Archive(project.layout).archived()
    derived = {o.key: o.version for o in Derivations(project.layout).origins()}
    made: dict[str, int] = {}
    for asset in ASSETS.values():
        for partition in project.records.partitions(asset.name) if asset.versioned else ():
            made[partition] = made.get(partition, 0) + 1
    runs = _runs()
    for version in reversed(project.snapshots.known()):
        note = ("archived" if version in archived else f"of {derived[version]}" if version in derived
                else "current" if version in current else "")
        yield Standing(version, made.get(version, 0), runs.get(version), note)


def _runs() -> dict[str, Run]:
    """The newest run of each version, among the latest."""
    with open_instance() as instance:
        records = instance.get_run_records(limit=LATEST_RUNS)
    runs: dict[str, Run] = {}
    for record in records:
        version = record.dagster_run.tags.get("dagster/partition")
        if version:
            began = datetime.fromtimestamp(record.start_time or record.create_timestamp.timestamp()).astimezone()
            runs.setdefault(version, Run(record.dagster_run.run_id, record.dagster_run.status.value,
                                         f"{began:%Y-%m-%d %H:%M}"))
    return runs


def _as_dict(s: Standing) -> dict[str, Any]:
    return {**s._asdict(), "run": s.run._asdict() if s.run else None}
