"""Commands that make things: ``demo``, ``materialize``, ``ui``, ``settings``."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel

from cai_assets.assets import ASSETS
from cai_assets.cli.common import (
    Scale,
    Set,
    app,
    err,
    open_instance,
    open_project,
    out,
    parse_overrides,
    read_settings,
    register_file,
    resolve_version,
    stop,
)
from cai_assets.errors import CaiError
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.settings import Settings, project_root
from cai_assets.settings.columns import Columns
from cai_assets.versions.snapshots import VERSIONS


@app.command()
def demo(
    constitution: Annotated[str, typer.Option(help="Name of a file in constitutions/")] = "harmlessness",
    scale: Scale = None, set_: Set = None,
) -> None:
    """Materialize every asset, from prompts to RL policy, for one constitution, with a real model."""
    overrides = parse_overrides(scale, set_)
    settings = read_settings(overrides)
    version = register_file(settings, constitution)
    start = time.monotonic()
    out.print(f"[b]{version}[/b] at scale [b]{settings.scale}[/b]; data in {settings.data_root}")
    run_graph(version, (), overrides)
    _report(settings, version, time.monotonic() - start)


@app.command()
def materialize(
    version: Annotated[str, typer.Argument(help="A registered version, or a constitution's name (its current file)")],
    select: Annotated[list[str] | None, typer.Option(help="Only this asset; repeatable")] = None,
    scale: Scale = None, set_: Set = None,
) -> None:
    """Materialize a constitution version, reusing every row and checkpoint that already exists."""
    overrides = parse_overrides(scale, set_)
    settings = read_settings(overrides)
    _refuse_unknown(select or ())
    version = resolve_version(settings, version)
    start = time.monotonic()
    run_graph(version, tuple(select or ()), overrides)
    _report(settings, version, time.monotonic() - start)


def _refuse_unknown(assets: Sequence[str]) -> None:
    for name in assets:
        if name not in ASSETS:
            near = difflib.get_close_matches(name, ASSETS, n=1)
            stop(f"--select {name}: no such asset; " + (f"did you mean {near[0]}?" if near else
                                                        f"the assets are {', '.join(ASSETS)}"))


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1", min=1, max=65535)] = 3000,
    read_only: Annotated[bool, typer.Option(help="View only, no changes")] = False,
    public_url: Annotated[list[str] | None, typer.Option(
        help="Address under which a reverse proxy serves it, such as https://cai.example.org; repeatable")] = None,
    password_file: Annotated[Path | None, typer.Option(
        help="Ask for the password in this file; CAI_UI_PASSWORD in the environment does the same")] = None,
) -> None:
    """Open Dagster on 127.0.0.1 with this project's instance, for this machine's user alone (docs/security.md)."""
    from cai_assets.web.password import read_password
    from cai_assets.web.serve import serve

    password = read_password(password_file)
    root = project_root()
    os.chdir(root)
    with open_instance() as instance:
        asks = "asks for the password" if password else "no password"
        out.print(f"Dagster on http://127.0.0.1:{port} (instance in {instance.root_directory}; {asks}); "
                  "stop it with Ctrl-C", highlight=False, soft_wrap=True)
        serve(instance, root / "workspace.yaml", port=port, read_only=read_only, public=public_url or (),
              password=password)


@app.command()
def settings(scale: Scale = None, set_: Set = None) -> None:
    """Print every setting and its value, in the format of the file that CAI_SETTINGS points to."""
    values = _every(read_settings(parse_overrides(scale, set_)))
    out.print(yaml.safe_dump(values, sort_keys=False), markup=False, highlight=False, end="")


def _every(group: BaseModel) -> dict[str, Any]:
    """The values as they are written down, and the maps of columns, which are not where they say nothing."""
    written = group.model_dump(mode="json")
    return {name: value.mapped if isinstance(value, Columns) else _every(value) if isinstance(value, BaseModel)
            else written[name] for name, value in group if name in written or isinstance(value, Columns)}


def run_graph(version: str, selection: tuple[str, ...], overrides: dict[str, Any]) -> None:
    from cai_assets.defs import execute

    with open_instance() as instance:
        if version in open_project(read_settings(overrides)).snapshots.known():
            instance.add_dynamic_partitions(VERSIONS, [version])  # Dagster's home may be newer than the data root
        if not instance.has_dynamic_partition(VERSIONS, version):
            known = ", ".join(instance.get_dynamic_partitions(VERSIONS)) or "none yet"
            stop(f"no registered version {version!r}. Known: {known}. Register files with: cai register")
        result = execute.materialize(instance, version, selection=selection, overrides=overrides)
    if not result.success:
        for line in failures(result):
            err.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        err.print("Finished work is kept: mend this and run the same command again, and it goes on from here.")
        raise typer.Exit(1)


def failures(result: Any) -> Iterator[str]:
    """What failed: blocking checks, steps, or the run itself before any of them."""
    blocked, steps = failed_checks(result), result.get_failed_step_keys()
    for step in steps:
        yield from blocked.pop(step, None) or [f"{step} failed: {_cause(result.failure_data_for_node(step))}"]
    for event in () if steps else result.filter_events(lambda e: e.is_job_failure):
        yield f"the run failed: {_cause(event.job_failure_data)}"


def failed_checks(result: Any) -> dict[str, list[str]]:
    """By step, what the blocking checks say that failed in a run: Dagster's own error names them and no more."""
    said: dict[str, list[str]] = {}
    for event in result.filter_events(lambda e: e.event_type_value == "ASSET_CHECK_EVALUATION"):
        check = event.event_specific_data
        if not check.passed and check.blocking:
            said.setdefault(str(event.step_key), []).append(
                f"{check.asset_key.to_user_string()}: {check.check_name} failed: {check.description}")
    return said


def _cause(failure: Any) -> str:
    """What really happened, which Dagster wraps: an error of ours, which says what to do, else the first of all."""
    said = getattr(failure, "user_failure_data", None)  # of a step
    if said and said.description:
        return str(said.description)
    chain = []
    error = failure.error if failure else None
    while error is not None:
        chain.append(error)
        error = error.cause
    if not chain:
        return "see the log above"
    ours = _names(CaiError)
    told = next((e for e in chain if e.cls_name in ours), None)
    text = str((told or chain[-1]).message).strip()
    return text.partition(": ")[2] or text if told else text


def _names(error: type[Exception]) -> set[str]:
    """The name of an error's class and of every class under it."""
    return {error.__name__}.union(*map(_names, error.__subclasses__()))


def _report(settings: Settings, version: str, seconds: float) -> None:
    from cai_assets.reports.summary import summary

    rows = summary(open_project(settings), version)
    counts = ("rows", "reused", "generated", "failed", "tokens", "seconds")
    table = terminal_table("asset", *counts, "result", title=f"{version} · {seconds:.0f} s", right=counts,
                           whole=("asset", *counts, "result"))
    for row in rows:
        table.add_row(*row.cells())
    out.print(table)
    total = (sum(r.generated for r in rows), sum(r.tokens for r in rows), sum(r.made == "trained" for r in rows))
    out.print(f"{total[0]} rows generated, {total[1]} tokens generated, {total[2]} training runs")
    for row in rows:
        for line in row.told:
            err.print(f"{row.asset}: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    for row in rows:
        if row.checkpoint:
            out.print(f"  {row.asset}: {row.checkpoint}", soft_wrap=True, highlight=False)
    name = open_project(settings).snapshots.load(version).name
    out.print("Next: browse the results with [b]cai ui[/b] (or make ui). Or edit a principle in "
              f"constitutions/{name}.yaml and run [b]cai materialize {name}[/b]: only what the edit affects is "
              "recomputed.")
