"""Commands about constitution versions: ``register``, ``round``, ``diff``, ``archive``, ``restore``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cai_assets.cli import complete
from cai_assets.cli.common import AsJson, app, err, find_constitution, open_instance, open_project, out, read_settings
from cai_assets.pipeline.absent import last_policy
from cai_assets.pipeline.roles import begin_round
from cai_assets.versions.archive import Archive
from cai_assets.versions.snapshots import VERSIONS

Known = Annotated[str, typer.Argument(help="A registered version", autocompletion=complete.versions)]


@app.command()
def register(json_: AsJson = False) -> None:
    """Register the current constitution files: an immutable snapshot and a partition for each new version."""
    from cai_assets.defs.execute import register as add
    from cai_assets.pipeline.absent import said

    settings = read_settings({})
    with open_instance() as instance:
        known = set(instance.get_dynamic_partitions(VERSIONS))
        keys, problems = add(instance, settings.constitutions, open_project(settings).snapshots)
    for problem in problems:
        err.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    if json_:
        typer.echo(json.dumps({"versions": [{"version": key, "new": key not in known} for key in keys],
                               "problems": problems}, indent=1))
        raise typer.Exit(1 if problems else 0)
    snapshots = open_project(settings).snapshots
    for key in keys:
        out.print(f"{'known' if key in known else '[green]new[/green]  '}  {key}")
        if left := said(snapshots.load(key)):
            out.print(f"       {left}", markup=False, highlight=False, soft_wrap=True)
    out.print("Next: [b]cai materialize VERSION[/b], or the partition's page in [b]cai ui[/b]")
    raise typer.Exit(1 if problems else 0)


@app.command(name="round")
def next_round(version: Known) -> None:
    """Start the next round: critique and revise the RL policy's own responses, and train it further."""
    project = open_project(read_settings({}))
    key = begin_round(project, version)
    with open_instance() as instance:
        instance.add_dynamic_partitions(VERSIONS, [key])
    out.print(f"{key} starts from the {last_policy(project.snapshots.load(version))} of {version}")
    out.print(f"Next: [b]cai plan {key}[/b], then [b]cai materialize {key}[/b]")


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A version, a constitution's name (its current file), or a file",
                                          autocompletion=complete.versions)],
    after: Annotated[str, typer.Argument(help="Another version, name, or file",
                                         autocompletion=complete.versions)],
    json_: AsJson = False,
) -> None:
    """Show what changed between two versions, by principle and word by word, and what each change affects."""
    from cai_assets.constitution.coverage import as_dict, coverage
    from cai_assets.constitution.diff import diff as compare
    from cai_assets.plan.touches import touches
    from cai_assets.reports.constitution_diff import terminal, to_json
    from cai_assets.reports.text.coverage import told
    from cai_assets.steps.why import as_asked

    settings = read_settings({})
    old, new = find_constitution(settings, before), find_constitution(settings, after)
    changes = compare(old, new)
    touched = touches(compare(as_asked(old, settings), as_asked(new, settings)), rounds=settings.critique.rounds)
    covered = coverage(old, new) if old.clauses and new.clauses and old.name != new.name else None
    if json_:
        shown = to_json(changes, touched) | ({"coverage": as_dict(covered)} if covered else {})
        out.print_json(json.dumps(shown))
    else:
        out.print(terminal(changes, touched))
        if covered:
            out.print(told(covered))


@app.command()
def archive(version: Known) -> None:
    """Take a version out of scheduled reruns. Nothing is deleted; 'cai restore' undoes it."""
    _set_archived(version, archived=True)


@app.command()
def restore(version: Known) -> None:
    """Undo 'cai archive'."""
    _set_archived(version, archived=False)


def _set_archived(version: str, *, archived: bool) -> None:
    book = Archive(open_project(read_settings({})).layout)
    changed = book.archive(version) if archived else book.restore(version)
    state = "archived" if archived else "in use"
    out.print(f"{version} is {state}" if changed else f"{version} is already {state}")
