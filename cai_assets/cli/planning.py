"""Commands about cost before it is spent: ``plan`` and ``why``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from cai_assets.cli.common import (
    Scale,
    Set,
    app,
    open_project,
    out,
    parse_overrides,
    read_settings,
    resolve_version,
    stop,
)
from cai_assets.constitution.reader import FileError
from cai_assets.lineage.snapshots import UnknownVersion

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command()
def plan(
    version: Annotated[str, typer.Argument(help="A registered version, or a constitution's name: its file as it is")],
    scale: Scale = None, set_: Set = None, json_: AsJson = False,
) -> None:
    """What a version would reuse, generate and train, what it would cost, and which principle or setting causes it."""
    from cai_assets.evals.suites.registry import SuitesError
    from cai_assets.plan.plan import UNLESS, make_plan

    settings = read_settings(parse_overrides(scale, set_))
    version = resolve_version(settings, version)
    try:
        made = make_plan(open_project(settings), version)
    except (UnknownVersion, FileError, SuitesError) as e:
        stop(str(e))
    if json_:
        out.print_json(json.dumps(made.as_dict()))
        return
    table = Table(title=f"plan of {version}, compared with {made.compared_with or 'nothing before'}",
                  title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("asset", "reuse", "generate", "training", "tokens", "seconds"):
        table.add_column(name, justify="left" if name in {"asset", "training"} else "right", no_wrap=True)
    for line in made.lines:
        calls = (str(line.reuse), bounds(line.generate_min, line.generate_max)) if not line.training else ("", "")
        training = "train?" if line.training == UNLESS else line.training
        table.add_row(line.asset, *calls, training, number(line.tokens),
                      number(line.seconds, line.seconds_low, line.seconds_high))
    out.print(table)
    for line in made.lines:
        for cause, count in line.causes.items():
            rows = "" if line.training else f": {count} rows"
            out.print(f"  {line.asset}: {cause}{rows}", markup=False, highlight=False)
    total = sum(line.seconds or 0 for line in made.lines)
    unknown = [line.asset for line in made.lines if line.seconds is None]
    if any(line.training == UNLESS for line in made.lines):
        out.print("train?: trained unless everything above comes out as before")
    out.print(f"at most about {total:.0f} s in all, at the rates measured in this store (smallest–largest seen)"
              + (f"; no rate yet for {', '.join(unknown)}" if unknown else ""))
    out.print(f"Next: [b]cai materialize {version}[/b]")


@app.command()
def why(
    asset: Annotated[str, typer.Argument(help="An asset, such as critiques or rl_policy")],
    version: Annotated[str, typer.Argument(help="A materialised version")],
    row: Annotated[str | None, typer.Argument(help="A row: prompt id, PROMPT:ROUND, or pair id")] = None,
    against: Annotated[str | None, typer.Option(help="Another version; default: the one materialised before")] = None,
    json_: AsJson = False,
) -> None:
    """Why a row or checkpoint is not the one of another version: the fields of its key that differ."""
    from cai_assets.plan.lines import version_before
    from cai_assets.plan.why import why_checkpoint, why_row

    project = open_project(read_settings({}))
    try:
        other = against or version_before(project, version)
        if other is None:
            stop(f"no other version of {version}'s constitution is materialised; name one with --against")
        found = (why_row(project, asset, version, row, against=other) if row
                 else why_checkpoint(project, asset, version, against=other))
    except LookupError as e:
        stop(str(e))
    if json_:
        out.print_json(json.dumps([d.__dict__ for d in found]))
        return
    out.print(f"{asset} {row or ''} of {version} against {other}: {len(found) or 'no'} fields of the key differ")
    for d in found:
        out.print(f"  {d.field}", style="bold", markup=False)
        out.print(f"    before: {d.before}", style="red", markup=False, highlight=False, soft_wrap=True)
        out.print(f"    now:    {d.now}", style="green", markup=False, highlight=False)


def bounds(low: int, high: int) -> str:
    """'3', or '1–3'."""
    return str(high) if low == high else f"{low}–{high}"


def number(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A rounded number, with the range seen if there is one; '?' if nothing was measured."""
    if value is None:
        return "?"
    spread = f" ({low:.0f}–{high:.0f})" if low is not None and high is not None and high > low else ""
    return f"{value:.0f}{spread}"
