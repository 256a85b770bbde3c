"""Models: what they take, and what is adapted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cai_assets.cli.common import Commands, Scale, Set, app, open_project, out, parse_overrides, read_settings, stop
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.settings import Model, Role, Settings

if TYPE_CHECKING:
    from cai_assets.engines.model_check import Finding

model = typer.Typer(cls=Commands, no_args_is_help=True, help=__doc__)
app.add_typer(model, name="model")


@model.callback()
def _group() -> None:
    """With this, it stays a group while it has one command."""


@model.command()
def check(
    path: Annotated[str, typer.Argument(help="A model folder, a Hub ID, the address of a server (http://host:8000/v1), "
                                             "or a role in the settings, such as generator")],
    name: Annotated[str | None, typer.Option(help="With an address: the name under which the model is served")] = None,
    scale: Scale = None, set_: Set = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Try a model's chat template and tokenizer, or a served model: what they take, and what will be adapted.

    Exits with 1 if something does not work.
    """
    settings = read_settings(parse_overrides(scale, set_))
    chosen = _chosen(settings, path, name)
    findings = _findings(settings, chosen)
    if json_:
        out.print_json(json.dumps([f._asdict() for f in findings]))
    else:
        out.print(f"model {chosen.source}", style="bold", highlight=False, soft_wrap=True)
        _print(findings)
    raise typer.Exit(1 if any(f.hint for f in findings) else 0)


def _chosen(settings: Settings, path: str, name: str | None) -> Model:
    if path in get_args(Role):
        role: Any = path
        return settings.models.role(role)
    if path.startswith(("http://", "https://")):
        if name is None:
            stop(f"which model at {path}? Name it with --name, as the server calls it")
        return Model.model_validate({"source": name, "base_urls": [path]})
    return Model(source=path)


def _findings(settings: Settings, chosen: Model) -> list[Finding]:
    from cai_assets.engines import model_check
    from cai_assets.engines.chat_template import ChatTemplate
    from cai_assets.engines.models import locate

    project = open_project(settings)
    if not chosen.base_urls:
        return model_check.of_folder(locate(chosen, project.layout), chosen.thinking)
    here = [*model_check.of_template(ChatTemplate.in_folder(Path(chosen.tokenizer)), chosen.thinking)
            ] if chosen.tokenizer else []
    try:
        return [*here, *model_check.of_server(project.engines.open(chosen))]
    finally:
        project.close()


def _print(findings: list[Finding]) -> None:
    table = terminal_table("behavior", "found", "what is done", whole={"behavior"})
    for f in findings:
        table.add_row(f.behavior, f.found, f"does not work: {f.hint}" if f.hint else f.done or "nothing is needed")
    out.print(table, markup=False)
    wrong, adapted = sum(bool(f.hint) for f in findings), sum(bool(f.done) and not f.hint for f in findings)
    out.print(f"{wrong} do not work" if wrong else f"everything works{f', {adapted} adapted' if adapted else ''}",
              highlight=False)
