"""The command ``impact``: from a principle, a prompt or a row to every checkpoint, and what undoing it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cai_assets.cli.common import app, open_project, out, read_settings, stop
from cai_assets.cli.lineage_tables import table_of

if TYPE_CHECKING:
    from cai_assets.lineage.impact import Cost, Reached, Rebuild

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command()
def impact(
    target: Annotated[str | None, typer.Argument(help="A principle's ID, ID@VERSION, or a row")] = None,
    prompt: Annotated[str | None, typer.Option(help="A prompt ID: what to remove if this prompt must go")] = None,
    json_: AsJson = False,
) -> None:
    """Every checkpoint that a principle, a prompt, or a row reached, and what rebuilding them without it costs."""
    from cai_assets.lineage.impact import as_dict, parse, rebuild
    from cai_assets.lineage.impact import impact as find

    name = prompt or target
    if name is None or (prompt and target):
        stop("name exactly one: a principle, a row, or --prompt ID")
    project = open_project(read_settings({}))
    reached = find(project.layout, parse(project.layout, name, prompt=prompt is not None))
    lines = rebuild(project.layout, reached, _cost(project))
    if json_:
        typer.echo(json.dumps(as_dict(reached, lines), indent=1))
        return
    _print_reached(name, reached)
    if lines:
        _print_rebuild(lines)


def _cost(project: Any) -> Cost:
    """What calls or trainings of an asset cost at this store's rates, as plans say it."""
    from cai_assets.plan.lines import cost_of
    from cai_assets.plan.rates import row_rate, training_rate

    rates = {True: cache(lambda asset: training_rate(project, asset)),
             False: cache(lambda asset: row_rate(project, asset))}
    return lambda asset, units, training: cost_of(project.settings, asset, rates[training](asset), units)


def _print_reached(name: str, reached: Sequence[Reached]) -> None:
    table = table_of("checkpoint", "version", "rows", "share", "share of text", "held out", "through")
    for x in reached:
        now = "" if x.newest else " (earlier)"
        above = ", ".join(dict.fromkeys(name.split("/")[0] for name in x.through))
        table.add_row(x.asset, f"{x.partition or ''}{now}", f"{x.rows}/{x.of_rows}", f"{x.row_share:.1%}",
                      f"{x.text_share:.1%}", str(x.held_out), above)
    out.print(f"{name} reached {len(reached)} checkpoints", markup=False)
    out.print(table)


def _print_rebuild(lines: Sequence[Rebuild]) -> None:
    table = table_of("to rebuild", "version", "calls", "training runs", "seconds", "USD")
    for x in lines:
        table.add_row(x.asset, x.partition or "", str(x.calls or ""), str(x.trainings or ""),
                      _rounded(x.cost.get("seconds"), 0), _rounded(x.cost.get("cost_usd"), 4, ""))
    out.print(table)
    seconds, usd = ([cost for x in lines if (cost := x.cost.get(what)) is not None] for what in ("seconds", "cost_usd"))
    out.print(f"Rebuilding the newest of them without it: at most {sum(x.calls for x in lines)} model calls and "
              f"{sum(x.trainings for x in lines)} training runs, about {sum(seconds):.0f} s"
              + (f" and {sum(usd):.4f} USD" if usd else "") + " at this store's rates"
              + ("" if len(seconds) == len(lines) else "; some have no rate yet"), soft_wrap=True)
    versions = sorted({x.partition for x in lines if x.partition})
    for version in versions[:1]:
        more = f", and the same for {len(versions) - 1} more versions" if versions[1:] else ""
        out.print("For exact numbers, remove it from the constitution or the prompt files and run "
                  f"[b]cai plan {version}[/b]{more}", soft_wrap=True)


def _rounded(value: float | None, digits: int, unknown: str = "?") -> str:
    return unknown if value is None else f"{value:.{digits}f}"
