"""``cai attribute``: what each principle of a version does, by leaving it out and rebuilding everything downstream."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cai_assets.assets import TO_ATTRIBUTE
from cai_assets.cli.common import (
    Scale,
    Set,
    Version,
    app,
    err,
    open_instance,
    open_project,
    out,
    parse_overrides,
    read_settings,
    resolve_version,
    stop,
)
from cai_assets.cli.run import run_graph
from cai_assets.constitution.derive import Derived, family
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.settings import Settings
from cai_assets.versions.derived import Derivations
from cai_assets.versions.snapshots import VERSIONS

SHOWN = ("principle", "attack success", "change", "p (Holm)", "verdict", "state")


@app.command()
def attribute(
    version: Version,
    principle: Annotated[list[str] | None, typer.Option(help="Only this principle; repeatable")] = None,
    also_alone: Annotated[bool, typer.Option(help="Also each principle alone, against the SFT baseline")] = False,
    null: Annotated[bool, typer.Option(help="Also the whole version with another seed: training noise")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Number of seeds per version")] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Show the cost and exit")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    scale: Scale = None, set_: Set = None,
) -> None:
    """What each principle does: leave it out, retrain with reuse, and compare attack success. Shows a plan first."""
    overrides = parse_overrides(scale, set_)
    settings = read_settings(overrides)
    version = resolve_version(settings, version)
    say = err if json_ else out
    derived, impossible = _wanted(settings, version, principle or (), also_alone, seeds, null)
    for why in impossible:
        say.print(why, markup=False, highlight=False, soft_wrap=True)
    lacks = _whole(settings, version, overrides, say, only_plan=plan, yes=yes)
    if lacks:
        if json_:
            out.print_json(json.dumps({"version": version, "lacks": lacks, "plan": []}))
        return
    from cai_assets.plan.attribution import plan_family

    planned = plan_family(open_project(settings), version, derived)
    if not json_ or not plan:
        _show(planned, settings, say)
    failed: list[str] = []
    if not plan:
        todo = [p for p in planned if p.why]
        if todo and not yes:
            typer.confirm(f"Materialize {len(todo)} derived versions?", abort=True, err=True)
        failed = _make(version, todo, overrides, settings, say)
        run_graph(version, ("attribution",), overrides)
    _report(open_project(settings), version, [p.as_dict() for p in planned], json_=json_, effects=not plan)
    if failed:
        stop(f"failed: {', '.join(failed)}. Finished work is kept: rerun the same command to resume.", 1)


def _wanted(
    settings: Settings, version: str, principles: Sequence[str], alone: bool, seeds: int, null: bool
) -> tuple[list[Derived], list[str]]:
    from cai_assets.reports.attribution.gather import check_whole

    derived, why = family(check_whole(open_project(settings), version), principles, alone=alone, seeds=seeds, null=null)
    if not any(d.principle for d in derived):
        stop("\n".join(["No principle can be left out:", *why]))
    return derived, why


def _whole(
    settings: Settings, version: str, overrides: dict[str, Any], say: Console, *, only_plan: bool, yes: bool
) -> str:
    """Make sure the whole version exists to compare with; what it lacks if that was only planned."""
    from cai_assets.plan.attribution import cost, whole_standing
    from cai_assets.plan.attribution_words import whole
    from cai_assets.plan.plan import make_plan

    project = open_project(settings)
    why = whole_standing(project, version)
    if not why:
        return ""
    needed = cost(make_plan(project, version))
    say.print(whole(version, why, needed), markup=False, highlight=False, soft_wrap=True)
    if only_plan:
        return why
    if not yes:
        typer.confirm(f"Materialize {version}?", abort=True, err=True)
    run_graph(version, (), overrides)
    return ""


def _make(
    version: str, todo: Sequence[Any], overrides: dict[str, Any], settings: Settings, say: Console
) -> list[str]:
    """Register and run each; return those that failed."""
    failed, start, expected = [], time.monotonic(), 0.0
    for number, planned in enumerate(todo):
        d = planned.derived
        left = _left(time.monotonic() - start, expected, number, [p.cost.seconds for p in todo[number:]])
        say.print(f"[b]{number + 1} of {len(todo)}[/b] · {d.label} · {d.key}{left}", highlight=False, soft_wrap=True)
        with open_instance() as instance:
            instance.add_dynamic_partitions(VERSIONS, [Derivations(open_project(settings).layout).register(version, d)])
        try:
            chosen = {**overrides, "seed": settings.seed + d.seed} if d.seed else overrides
            run_graph(d.key, TO_ATTRIBUTE, chosen)
        except typer.Exit as ended:
            if ended.exit_code == 130:  # Ctrl-C ends all of them
                raise
            failed.append(d.label)
        expected += planned.cost.seconds
    return failed


def _left(spent: float, expected: float, done: int, rest: Sequence[float]) -> str:
    """Time left: the plan's seconds, corrected by how the finished ones went; unknown before there is anything."""
    if done and expected and all(rest):
        seconds = sum(rest) * spent / expected
    elif done:
        seconds = spent / done * len(rest)
    else:
        seconds = sum(rest) if all(rest) else 0.0
    return f" · about {seconds / 60:.0f} min left" if seconds else ""


def _show(planned: Sequence[Any], settings: Settings, say: Console) -> None:
    from cai_assets.plan.attribution_words import HEADS, TITLE, rows, states, sums

    table = terminal_table(*HEADS, right=HEADS[1:], whole=HEADS[1:], title=TITLE)
    for cells in rows(planned):
        table.add_row(*cells)
    say.print(table)
    for line in states(planned):
        say.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for line in sums(planned, settings):
        say.print(line, highlight=False, soft_wrap=True)


def _report(project: Any, version: str, planned: list[dict[str, Any]], *, json_: bool, effects: bool) -> None:
    from cai_assets.reports.attribution.gather import gather
    from cai_assets.reports.attribution.page import page_path
    from cai_assets.reports.attribution.words import HEADS, rows, sentences

    if not effects:
        if json_:
            out.print_json(json.dumps({"version": version, "plan": planned}))
        else:
            out.print(f"Next: [b]cai attribute {version}[/b] asks, then materializes them", highlight=False)
        return
    attribution, path = gather(project, version), page_path(project.layout, version)
    if json_:
        out.print_json(json.dumps({"version": version, "plan": planned, "effects": attribution.effects.to_dicts(),
                                   "says": sentences(attribution), "page": str(path)}))
        return
    table = terminal_table(*SHOWN, title=f"what each principle of {version} does: RL policy")
    for _, cells in rows(attribution):
        table.add_row(*(escape(str(cells[HEADS.index(name)])) for name in SHOWN))
    out.print(table)
    out.print("\n".join(sentences(attribution)), markup=False, highlight=False, soft_wrap=True)
    out.print(f"Page with all measures and both policies: {path}", highlight=False, soft_wrap=True)
