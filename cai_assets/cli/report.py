"""``cai report``: the page of a version, and the page across versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cai_assets.cli import complete
from cai_assets.cli.common import AsJson, app, open_project, out, read_settings, stop
from cai_assets.store.records import RecordMissing

if TYPE_CHECKING:
    from cai_assets.pipeline.project import Project


@app.command()
def report(
    version: Annotated[str | None, typer.Argument(
        help="A materialized version, or a record ID: report/VERSION/000001 is the page of that day",
        autocompletion=complete.versions)] = None,
    all_: Annotated[bool, typer.Option("--all", help="The page across versions")] = False,
    out_: Annotated[Path | None, typer.Option("--out", help="File for the page; default: under the data root")] = None,
    open_path: Annotated[bool, typer.Option("--open-path", help="Print only the page's path: "
                                            "xdg-open $(cai report VERSION --open-path)")] = False,
    json_: AsJson = False,
) -> None:
    """Is a version better, at what cost, and how can each figure be reproduced? Writes one self-contained HTML page.

    Reads records and runs no model.
    """
    if (version is None) != all_:
        stop("name one version, or pass --all for the page across versions")
    project = open_project(read_settings({}))
    path, lines = _all(project, out_) if version is None else _one(project, version, out_)
    if open_path:
        typer.echo(str(path.resolve()))
        return
    if json_:
        typer.echo(json.dumps({"page": str(path.resolve()), "says": lines}, indent=1, ensure_ascii=False))
        return
    for line in lines:
        out.print(line, markup=False, highlight=False)
    out.print(f"Written to {path}", soft_wrap=True, highlight=False, markup=False)


def _one(project: Project, version: str, path: Path | None) -> tuple[Path, list[str]]:
    from cai_assets.reports.version.answers import answers
    from cai_assets.reports.version.evidence import beside, evidence_of
    from cai_assets.reports.version.page import save

    evidence = evidence_of(project.layout, version, project.settings.monitors, project.settings.price_per_gpu_hour)
    lines = [f"{a.question} {f'[{a.told}] ' if a.told else ''}{a.text}" for a in answers(evidence)]
    return save(evidence, beside(evidence), path), lines


def _all(project: Project, path: Path | None) -> tuple[Path, list[str]]:
    from cai_assets.reports.version.evidence import every_version
    from cai_assets.reports.versions.page import save

    every = every_version(project.layout, project.settings.monitors, project.settings.price_per_gpu_hour)
    if not every:
        raise RecordMissing("no constitution version has been evaluated yet: cai materialize CONSTITUTION")
    return save(project.layout, every, path), [f"Evaluated versions: {len(every)}, oldest first: "
                                               + ", ".join(e.version for e in every)]
