"""Commands that make things: ``demo`` and ``materialize``."""

from __future__ import annotations

import difflib
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cai_assets.assets import ASSETS
from cai_assets.cli import complete
from cai_assets.cli.common import (
    INTERRUPTED,
    AsJson,
    Scale,
    Set,
    Version,
    app,
    err,
    open_instance,
    open_project,
    parse_overrides,
    read_settings,
    register_file,
    resolve_version,
    stop,
)
from cai_assets.cli.quiet import log_file, quiet
from cai_assets.settings import Settings
from cai_assets.versions.snapshots import VERSIONS

if TYPE_CHECKING:
    from cai_assets.cli.follow import Check
    from cai_assets.reports.summary import Line

Again = Annotated[bool, typer.Option("--again", help="Make tables, checks, and pages again even if nothing has changed "
                                                   "since they were made")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what the libraries print, instead of one line for "
                                                               "each asset")]


class Made(NamedTuple):
    """What one run made. ``failed_checks`` of ``checks`` did not pass; ``log``: what the libraries printed, if kept;
    ``headline``: the report's answers, each a question, a verdict, and a text; ``unchanged``: that run was an earlier
    one, and all is as it left it."""

    version: str
    run_id: str
    seconds: float
    lines: Sequence[Line]
    checks: int
    failed_checks: Sequence[Check]
    log: Path | None
    headline: Sequence[Sequence[str]] = ()
    unchanged: bool = False


@app.command()
def demo(
    constitution: Annotated[str, typer.Option(help="Name of a file in constitutions/")] = "harmlessness",
    scale: Scale = None, set_: Set = None, again: Again = False, verbose: Verbose = False, json_: AsJson = False,
) -> None:
    """Materialize every asset, from prompts to RL policy, for one constitution, with a real model."""
    overrides = parse_overrides(scale, set_)
    settings = read_settings(overrides)
    version = register_file(settings, constitution)
    _materialize(settings, version, (), overrides, again=again, verbose=verbose, json_=json_)


@app.command()
def materialize(
    version: Version,
    select: Annotated[list[str] | None, typer.Option(help="Only this asset; repeatable",
                                                     autocompletion=complete.assets)] = None,
    scale: Scale = None, set_: Set = None, again: Again = False, verbose: Verbose = False, json_: AsJson = False,
) -> None:
    """Materialize a constitution version, reusing every row and checkpoint that already exists."""
    overrides = parse_overrides(scale, set_)
    settings = read_settings(overrides)
    _refuse_unknown(select or ())
    version = resolve_version(settings, version)
    _materialize(settings, version, tuple(select or ()), overrides, again=again, verbose=verbose, json_=json_)


def _materialize(
    settings: Settings, version: str, selection: Sequence[str], overrides: dict[str, Any], *, again: bool,
    verbose: bool, json_: bool,
) -> None:
    from cai_assets.cli.made import as_dict, headline, show
    from cai_assets.cli.unchanged import keep, made_before, state_of

    project = open_project(settings)
    before = state_of(settings, project.layout)
    made = None if again else made_before(project, version, selection, before)
    if made is None:
        made = run_graph(version, selection, overrides, verbose=verbose)
        made = made._replace(headline=[*headline(project, made)])
        keep(project.layout, selection, made, before, state_of(settings, project.layout))
    if json_:
        typer.echo(json.dumps(as_dict(project, made), indent=1))
    else:
        show(project, made)


def _refuse_unknown(assets: Sequence[str]) -> None:
    for name in assets:
        if name not in ASSETS:
            near = difflib.get_close_matches(name, ASSETS, n=1)
            stop(f"--select {name}: no such asset; " + (f"did you mean {near[0]}?" if near else
                                                        f"the assets are {', '.join(ASSETS)}"))


def run_graph(version: str, selection: Sequence[str], overrides: dict[str, Any], *, verbose: bool = False) -> Made:
    """Run the graph for a version and show how it goes; exit where it does not succeed."""
    from cai_assets.cli.follow import Terminal
    from cai_assets.defs import execute
    from cai_assets.defs.outcome import canceled, failures
    from cai_assets.pipeline.absent import said
    from cai_assets.reports.summary import made_by, summary

    project, start = open_project(read_settings(overrides)), time.monotonic()
    with open_instance() as instance:
        if version in project.snapshots.known():
            instance.add_dynamic_partitions(VERSIONS, [version])  # a plan registers without Dagster
        if not instance.has_dynamic_partition(VERSIONS, version):
            known = ", ".join(instance.get_dynamic_partitions(VERSIONS)) or "none yet"
            stop(f"no registered version {version!r}. Known: {known}. Register files with: cai register")
        if version in project.snapshots.known() and (half := said(project.snapshots.load(version))):
            err.print(half, markup=False, highlight=False, soft_wrap=True)
        log = None if verbose else log_file(version)
        with quiet(log) if log else nullcontext(sys.stderr) as file:
            about = f"{version} at scale {project.settings.scale}; data in {project.settings.data_root}"
            terminal = Terminal(file, about, lambda asset, run_id: made_by(project, asset, version, run_id),
                                live=not verbose)
            with terminal.shown():
                result = execute.materialize(instance, version, selection=selection, overrides=overrides,
                                             follower=terminal)
    if canceled(result):
        stop(INTERRUPTED, 130)
    if not result.success:
        for line in failures(result):
            err.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        err.print("Finished work is kept: mend this and run the same command again, and it goes on from here."
                  + (f" What the libraries printed: {log}" if log else ""), highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    return Made(version, result.run_id, time.monotonic() - start, summary(project, version, result.run_id),
                terminal.checks, terminal.failed_checks, log)

