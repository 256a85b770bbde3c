"""The command line: ``cai COMMAND``. Every command says what to do next."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.lint import lint as find
from cai_assets.constitution.load import ConstitutionError, load_file
from cai_assets.settings import Settings, SettingsError, load_settings, project_root

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Constitutional AI as Dagster assets.\n\nStart with [b]cai demo[/b], then [b]cai ui[/b]. Edit a principle in "
         "constitutions/, run [b]cai register[/b], and [b]cai materialize VERSION[/b]: only what the edit touched is "
         "computed again.", rich_markup_mode="rich")
out = Console()
err = Console(stderr=True)

Set = Annotated[list[str] | None, typer.Option("--set", "-s", help="A setting, such as rl.beta=0.1; may be repeated")]
Scale = Annotated[str | None, typer.Option(help="The dial: smoke, small or full")]


@app.command()
def demo(
    constitution: Annotated[str, typer.Option(help="Name of a file in constitutions/")] = "harmlessness",
    scale: Scale = None, set_: Set = None,
) -> None:
    """Materialise every asset, from prompts to RL policy, for one constitution, on a real model."""
    overrides = _overrides(scale, set_)
    settings = _settings(overrides)
    version = _newest(settings, constitution)
    start = time.monotonic()
    out.print(f"[b]{version}[/b] at scale [b]{settings.scale}[/b]; data in {settings.data_root}")
    _materialise(version, (), overrides)
    _report(settings, version, time.monotonic() - start)


@app.command()
def materialize(
    version: Annotated[str, typer.Argument(help="A registered version, or a constitution's name: its file as it is")],
    select: Annotated[list[str] | None, typer.Option(help="Only this asset; may be repeated")] = None,
    scale: Scale = None, set_: Set = None,
) -> None:
    """Materialise a constitution version. What exists already is reused, row by row and checkpoint by checkpoint."""
    overrides = _overrides(scale, set_)
    settings = _settings(overrides)
    if (settings.constitutions / f"{version}.yaml").exists():
        version = _newest(settings, version)
    start = time.monotonic()
    _materialise(version, tuple(select or ()), overrides)
    _report(settings, version, time.monotonic() - start)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1")] = 3000,
    read_only: Annotated[bool, typer.Option(help="Show everything, change nothing")] = False,
) -> None:
    """Open Dagster on 127.0.0.1 with this project's instance. Its pages have no login: do not expose the port."""
    from cai_assets.defs.execute import use_project_home

    home = use_project_home()
    os.chdir(project_root())
    out.print(f"Dagster on http://127.0.0.1:{port} (instance in {home}); stop it with Ctrl-C")
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    if read_only:
        command = [sys.executable, "-m", "dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1",
                   "-p", str(port), "--read-only"]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it, and dagster dev would never end
    os.execv(sys.executable, command)  # noqa: S606 - a fixed command of our own


@app.command()
def register() -> None:
    """Register the constitution files as they are now: an immutable snapshot and a partition for each new version."""
    from cai_assets.defs.execute import register as add

    settings = _settings({})
    with _instance() as instance:
        known = set(instance.get_dynamic_partitions("constitution_version"))
        keys, problems = add(instance, settings.constitutions, _project(settings).snapshots)
    for key in keys:
        out.print(f"{'known' if key in known else '[green]new[/green]  '}  {key}")
    for problem in problems:
        err.print(problem, style="red", markup=False, highlight=False)
    out.print("Next: [b]cai materialize VERSION[/b], or the partition's page in [b]cai ui[/b]")
    raise typer.Exit(1 if problems else 0)


@app.command()
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files; default: all of constitutions/")] = None,
) -> None:
    """Check constitution files: errors with line and column, then advice. Exit code 1 if a file has errors."""
    folder = _settings({}).constitutions
    bad = False
    for path in paths or sorted(p for p in folder.glob("*.yaml") if not p.name.endswith(".tests.yaml")):
        try:
            loaded = load_file(path)
        except (ConstitutionError, OSError) as e:
            bad = True
            err.print(str(e), style="red", markup=False, highlight=False)
            continue
        findings = find(loaded)
        bad = bad or any(f.level == "error" for f in findings)
        out.print(f"[b]{path.name}[/b]: {len(loaded.principles)} principles, version key {partition_key(loaded)}")
        for f in findings:
            out.print(f"  {f.level}: {f.principle or 'constitution'}: {f.message}", markup=False)
    raise typer.Exit(1 if bad else 0)


@app.command()
def settings(scale: Scale = None, set_: Set = None) -> None:
    """Print every setting and its value, as a file that CAI_SETTINGS can name."""
    values = _settings(_overrides(scale, set_)).model_dump(mode="json")
    out.print(yaml.safe_dump(values, sort_keys=False), markup=False, highlight=False, end="")


def _overrides(scale: str | None, pairs: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"scale": scale} if scale else {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE, such as rl.beta=0.1", param_hint="--set")
        *groups, leaf = name.split(".")
        here = found
        for group in groups:
            here = here.setdefault(group, {})
        here[leaf] = yaml.safe_load(text)
    return found


def _settings(overrides: dict[str, Any]) -> Settings:
    try:
        return load_settings(overrides)
    except SettingsError as e:
        err.print(str(e), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None


def _project(settings: Settings) -> Any:
    from cai_assets.project import Project

    return Project(settings)


def _instance() -> Any:
    import dagster as dg

    from cai_assets.defs.execute import use_project_home

    use_project_home()
    return dg.DagsterInstance.get()


def _newest(settings: Settings, name: str) -> str:
    """Register the constitution file as it is now and return its version."""
    try:
        constitution = load_file(settings.constitutions / f"{name}.yaml")
    except (ConstitutionError, OSError) as e:
        err.print(str(e), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    with _instance() as instance:
        key: str = _project(settings).snapshots.register(constitution)
        instance.add_dynamic_partitions("constitution_version", [key])
    return key


def _materialise(version: str, selection: tuple[str, ...], overrides: dict[str, Any]) -> None:
    from cai_assets.defs.execute import materialise

    with _instance() as instance:
        if not instance.has_dynamic_partition("constitution_version", version):
            known = ", ".join(instance.get_dynamic_partitions("constitution_version")) or "none yet"
            err.print(f"no registered version {version!r}. Known: {known}. Register files with: cai register",
                      style="red", markup=False)
            raise typer.Exit(2)
        result = materialise(instance, version, selection=selection, overrides=overrides)
    if not result.success:
        for event in result.get_failed_step_keys():
            failure = result.failure_data_for_node(event)
            err.print(f"{event} failed: {_cause(failure)}", style="red", markup=False, highlight=False)
        err.print("Nothing finished is lost: the same command goes on from here.")
        raise typer.Exit(1)


def _cause(failure: Any) -> str:
    """The first error of a chain: Dagster wraps what really happened."""
    error = failure.error if failure else None
    while error is not None and error.cause is not None:
        error = error.cause
    if error is not None:
        return str(error.message).strip()
    return failure.user_failure_data.description if failure and failure.user_failure_data else "see the log above"


def _report(settings: Settings, version: str, seconds: float) -> None:
    from cai_assets.reports.summary import summary

    rows = summary(_project(settings), version)
    table = Table(title=f"{version} · {seconds:.0f} s", title_justify="left", box=box.SIMPLE_HEAD,
                  padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("asset", "rows", "reused", "generated", "failed", "tokens", "seconds", "made"):
        table.add_column(name, justify="left" if name in {"asset", "made"} else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells())
    out.print(table)
    total = (sum(r.generated for r in rows), sum(r.tokens for r in rows), sum(r.made == "trained" for r in rows))
    out.print(f"{total[0]} rows generated, {total[1]} tokens generated, {total[2]} trainings")
    for row in rows:
        if row.checkpoint:
            out.print(f"  {row.asset}: {row.checkpoint}", soft_wrap=True, highlight=False)
    name = _project(settings).snapshots.load(version).name
    out.print(f"Next: [b]cai ui[/b] (or make ui) shows all of it. Or edit a principle in constitutions/{name}.yaml and "
              f"run [b]cai materialize {name}[/b]: only what it touched is computed again.")


if __name__ == "__main__":
    app()
