"""``cai ask``: one prompt to the policies of some versions, beside the base model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cai_assets.cli import complete
from cai_assets.cli.common import (
    AsJson,
    Scale,
    Set,
    app,
    err,
    open_project,
    out,
    parse_overrides,
    read_settings,
    resolve_version,
)

if TYPE_CHECKING:
    from cai_assets.pipeline.ask import Who
    from cai_assets.steps.complete import Row


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input")],
    versions: Annotated[list[str], typer.Argument(help="Registered versions, or names of constitution files",
                                                  autocompletion=complete.versions)],
    plan: Annotated[bool, typer.Option("--plan", help="Show the cost and exit; answers that are stored are shown")] =
    False,
    scale: Scale = None, set_: Set = None, json_: AsJson = False,
) -> None:
    """Ask the policies of versions, and the base model, one prompt. Answers are stored, and asked again for nothing."""
    from cai_assets.pipeline.ask import ask as answers
    from cai_assets.pipeline.ask import whom
    from cai_assets.plan.ask import plan_ask
    from cai_assets.steps.complete import Completer

    settings = read_settings(parse_overrides(scale, set_))
    project, prompt = open_project(settings), sys.stdin.read() if prompt == "-" else prompt
    try:
        who = whom(project, [resolve_version(settings, version) for version in versions])
        planned = plan_ask(project, who, prompt)
        err.print(planned.cost, markup=False, highlight=False, soft_wrap=True)
        rows = planned.rows if plan or not planned.missing else answers(
            project, who, prompt, lambda engine: Completer(engine, project.store, seed=settings.seed))
    finally:
        project.close()
    if json_:
        typer.echo(json.dumps({"prompt": prompt, "cost": planned.cost, "answers": [
            _as_dict(one, row) for one, row in zip(who, rows, strict=True)]}, indent=1))
    else:
        _show(who, rows)
    raise typer.Exit(1 if not plan and any(row.error for row in rows) else 0)


def _as_dict(one: Who, row: Row) -> dict[str, Any]:
    return {"policy": one.policy, "version": one.version, "row_key": row.row_key, "status": row.status,
            "text": row.text, "error": row.error}


def _show(who: Sequence[Who], rows: Sequence[Row]) -> None:
    from cai_assets.reports.escape import visible
    from cai_assets.reports.version.policies import name_of

    for one, row in zip(who, rows, strict=True):
        title = name_of(one.policy) + (f" of {one.version}" if one.version else "")
        out.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        style = "" if row.text is not None else "red"
        out.print(visible((row.text or row.error or "").strip()), style=style, markup=False, highlight=False,
                  soft_wrap=True)
