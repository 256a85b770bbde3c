"""Commands about cost before it is spent: ``plan`` and ``why``."""

from __future__ import annotations

import json
import shlex
from typing import Annotated

import typer
from rich.markup import escape

from cai_assets.cli import complete
from cai_assets.cli.common import (
    AsJson,
    Scale,
    Set,
    Version,
    app,
    as_typed,
    open_project,
    out,
    parse_overrides,
    read_settings,
    resolve_version,
    stop,
)
from cai_assets.reports.text.terminal import terminal_table


@app.command()
def plan(
    version: Version,
    power: Annotated[float | None, typer.Option(
        metavar="EFFECT", help="Instead: how many held-out prompts or samples find a difference of this size, such as "
                               "0.1, in 80% of trials, and their cost")] = None,
    scale: Scale = None, set_: Set = None, json_: AsJson = False,
) -> None:
    """What a version would reuse, generate, and train, what it would cost, and which principle or setting causes it."""
    from cai_assets.plan.besides import besides
    from cai_assets.plan.models import said_of_models
    from cai_assets.plan.plan import make_plan
    from cai_assets.plan.words import bounds, number

    settings = read_settings(parse_overrides(scale, set_))
    version = resolve_version(settings, version)
    project = open_project(settings)
    if power is not None:
        from cai_assets.cli.power import show_power

        show_power(project, version, power, json_=json_)
        return
    planned = make_plan(project, version)
    if json_:
        out.print_json(json.dumps(planned.as_dict()))
        return
    before = f", compared with {planned.compared_with}" if planned.compared_with else ""
    out.print(f"plan of {version}{before}", style="bold", highlight=False, soft_wrap=True)
    for trouble in said_of_models(project):
        out.print(trouble, style="yellow", markup=False, highlight=False, soft_wrap=True)
    counts = {"reuse", "generate", "tokens", "seconds"}
    table = terminal_table("asset", "reuse", "generate", "training", "tokens", "seconds", right=counts,
                           whole={"asset", *counts})
    for line in planned.lines:
        calls = (str(line.reuse), bounds(line.generate_min, line.generate_max)) if not line.training else ("", "")
        table.add_row(line.asset, *calls, line.doing, number(line.tokens),
                      number(line.seconds, line.seconds_low, line.seconds_high))
    out.print(table)
    for line in (x for x in planned.lines if x.causes):
        out.print(f"{line.asset}", style="bold", markup=False, highlight=False)
        for cause, count in line.causes.items():
            rows = "" if line.training else f"{count:>6}  "
            out.print(f"  {rows}{cause}", markup=False, highlight=False, soft_wrap=True)
    for remark in besides(project, planned, project.snapshots.load(version)):
        out.print(remark, highlight=False, soft_wrap=True)
    command = f"cai materialize {version} {shlex.join(as_typed(scale, set_))}".strip()
    out.print(f"Next: [b]{escape(command)}[/b]", highlight=False, soft_wrap=True)


@app.command()
def why(
    asset: Annotated[str, typer.Argument(help="An asset, such as critiques or rl_policy",
                                         autocompletion=complete.assets)],
    version: Annotated[str, typer.Argument(help="A version, materialized or registered",
                                           autocompletion=complete.versions)],
    row: Annotated[str | None, typer.Argument(help="A row: prompt ID, PROMPT:ROUND, or pair ID")] = None,
    against: Annotated[str | None, typer.Option(help="Another version; default: the one materialized before")] = None,
    json_: AsJson = False,
) -> None:
    """Why a row or checkpoint differs from another version's: the fields of its key that changed.

    For a version that is not materialized yet, this uses its plan; for a whole table, its settings, inputs, and rows.
    """
    from cai_assets.plan.lines import version_before
    from cai_assets.plan.why import why_asset, why_row

    project = open_project(read_settings({}))
    other = against or version_before(project, version)
    if other is None:
        stop(f"no other version of {version}'s constitution is materialized; name one with --against")
    changes = (why_row(project, asset, version, row, against=other) if row
               else why_asset(project, asset, version, against=other))
    if json_:
        out.print_json(json.dumps([d.__dict__ for d in changes]))
        return
    named = " ".join(filter(None, [asset, row]))
    what = "no difference" if not changes else "1 difference" if len(changes) == 1 else f"{len(changes)} differences"
    out.print(f"{named} of {version} against {other}: {what}", highlight=False, soft_wrap=True)
    for d in changes:
        out.print(f"  {d.field}", style="bold", markup=False)
        out.print(f"    before: {d.before}", style="red", markup=False, highlight=False, soft_wrap=True)
        out.print(f"    now:    {d.now}", style="green", markup=False, highlight=False)
