"""Train and evaluate one version with several values of a setting."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cai_assets.cli.common import (
    AsJson,
    Scale,
    Set,
    Version,
    app,
    err,
    open_project,
    out,
    parse_overrides,
    read_settings,
    resolve_version,
    stop,
)
from cai_assets.cli.run import run_graph

sweep = typer.Typer(no_args_is_help=True, help=__doc__)
app.add_typer(sweep, name="sweep")
POLICY_AND_EVALUATION = ("rl_policy", "evaluation")


@sweep.command()
def alpha(
    version: Version,
    values: Annotated[str, typer.Option(help="Values of rl.alpha, separated by commas")] = "0.1,1,10",
    scale: Scale = None, set_: Set = None, json_: AsJson = False,
) -> None:
    """Train the RL policy on L_SL + alpha x L_RL for each alpha, and evaluate it. Rerun to resume after a stop."""
    from cai_assets.reports.sweep import markdown, measured, save

    overrides = parse_overrides(scale, set_)
    wanted = parse_values(values)
    settings = read_settings(overrides)
    version = resolve_version(settings, version)
    rows: list[dict[str, Any]] = []
    for value in wanted:
        chosen = with_alpha(overrides, value)
        err.print(f"[b]alpha = {value:g}[/b]")
        run_graph(version, POLICY_AND_EVALUATION if rows else (), chosen)
        project = open_project(read_settings(chosen))
        rows.append(measured(project, version, value))
        path = save(project.layout, version, rows)
    if json_:
        typer.echo(json.dumps({"version": version, "rows": rows, "page": str(path)}, indent=1))
    else:
        out.print(markdown(version, rows), markup=False, highlight=False, soft_wrap=True)
        out.print(f"Written to {path}, with a JSON file next to it", soft_wrap=True, highlight=False)
    _put_back(version, overrides)


def parse_values(text: str) -> list[float]:
    """Distinct positive numbers, in the order given."""
    try:
        alphas = list(dict.fromkeys(float(part) for part in text.split(",") if part.strip()))
    except ValueError:
        stop(f"--values {text!r}: use numbers separated by commas, such as 0.1,1,10")
    if not alphas or min(alphas) <= 0:
        stop(f"--values {text!r}: alpha must be positive, such as 0.1,1,10")
    return alphas


def with_alpha(overrides: dict[str, Any], value: float) -> dict[str, Any]:
    """The overrides with ``rl.alpha``."""
    return {**overrides, "rl": {**overrides.get("rl", {}), "alpha": value}}


def _put_back(version: str, overrides: dict[str, Any]) -> None:
    """Make the settings' own RL policy the version's newest again, if it exists."""
    from cai_assets.plan.plan import make_plan

    if make_plan(open_project(read_settings(overrides)), version).line("rl_policy").training == "reuse":
        run_graph(version, POLICY_AND_EVALUATION, overrides)
    else:
        err.print("The version's RL policy is now the one for the last alpha. Next: set rl.alpha to the value you "
                  f"choose and run [b]cai materialize {version}[/b]: its checkpoint already exists.")
