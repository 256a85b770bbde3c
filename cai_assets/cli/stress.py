"""``cai stress``: which principles of a constitution contradict each other, before anything is trained by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cai_assets.cli.common import (
    AsJson,
    Scale,
    Set,
    Version,
    app,
    as_typed,
    err,
    find_constitution,
    open_project,
    out,
    parse_overrides,
    read_settings,
    refuse_to_replace,
    stop,
)

if TYPE_CHECKING:
    from cai_assets.evals.conflicts import Conflicts
    from cai_assets.pipeline.context import Context
    from cai_assets.pipeline.stress import Stressed

OFF = ("stress.prompts_per_pair is 0, so there is nothing to ask: set it, such as -s stress.prompts_per_pair=30; "
       "--plan says what that costs")
EXCERPT = 200


@app.command()
def stress(
    name: Version,
    plan: Annotated[bool, typer.Option("--plan", help="Only say how many calls it would cost")] = False,
    prompts: Annotated[Path | None, typer.Option(
        help="Write the trade-off prompts to this file, to be reviewed and read back with stress.path")] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="File for the page; default: under the data root")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --prompts")] = False,
    json_: AsJson = False, scale: Scale = None, set_: Set = None,
) -> None:
    """Which principles contradict each other, and which are unclear? Trains nothing; what was asked before is reused.

    A model writes prompts on which two principles pull apart, and the labeler judges responses by each one alone.
    """
    from cai_assets.constitution.digest import partition_key
    from cai_assets.evals.conflicts import conflicts
    from cai_assets.pipeline.context import Context
    from cai_assets.pipeline.stress import stress as run_stress

    if prompts:
        refuse_to_replace(prompts, force=force)
    project = open_project(read_settings(parse_overrides(scale, set_)))
    if not project.settings.stress.on:
        stop(OFF)
    constitution = find_constitution(project.settings, name)
    version = partition_key(constitution)
    if plan:
        _plan(project, constitution, json_=json_)
        return
    run: Context = Context(project, version, _log)
    run.constitution = constitution  # which need not be registered
    try:
        made = run_stress(run)
    finally:
        project.close()
    if prompts:
        _write(prompts, made)
    wanted = project.settings.evaluation
    found = conflicts(made.rows, confidence=wanted.confidence, enough=wanted.enough)
    page = _save(project, version, name, scale, set_, found, made, out_) if out_ or not json_ else None
    if json_:
        from cai_assets.reports.stress import as_dict

        typer.echo(json.dumps({"version": version, "left_out": made.told, **as_dict(found)}, indent=1,
                              ensure_ascii=False))
    else:
        _show(version, found, made, page)


def _plan(project: Any, constitution: Any, *, json_: bool) -> None:
    from cai_assets.constitution.digest import partition_key
    from cai_assets.plan.lines import Lines, imagining
    from cai_assets.plan.stress import ASSET, plan_stress

    lines = Lines(imagining(project, constitution), partition_key(constitution))
    plan_stress(lines)
    line = next(x for x in lines.lines if x.asset == ASSET)
    if json_:
        typer.echo(json.dumps({"reuse": line.reuse, "generate_min": line.generate_min,
                               "generate_max": line.generate_max, "seconds": line.seconds}, indent=1))
        return
    _say(f"{line.generate_min:,} calls for certain, {line.generate_max:,} at most, {line.reuse:,} answers reused"
         + (f"; about {line.seconds:,.0f} s at most" if line.seconds else ""))


def _write(path: Path, made: Stressed) -> None:
    from cai_assets.steps.tradeoff import for_review
    from cai_assets.store.files import write_atomic

    lines = [json.dumps(row, ensure_ascii=False) for row in for_review(made.prompts)]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
    err.print(f"{len(lines)} prompts written to {path}: review them, then -s stress.path={path}", markup=False,
              highlight=False, soft_wrap=True)


def _save(project: Any, version: str, name: str, scale: str | None, set_: list[str] | None, found: Conflicts,
          made: Stressed, path: Path | None) -> Path:
    import shlex

    from cai_assets.reports.files import page_file
    from cai_assets.reports.html.page import Source
    from cai_assets.reports.stress import render
    from cai_assets.store.pages import write_page

    source = Source(shlex.join(["cai", "stress", name, *as_typed(scale, set_)]),
                    f"{made.rows.height} responses to {made.prompts.height} prompts")
    path = path or page_file(project.layout, "stress", version)
    write_page(project.layout, path, render(version, found, made.told, source))
    return path


def _show(version: str, found: Conflicts, made: Stressed, page: Path | None) -> None:
    from cai_assets.reports.escape import shorten, visible
    from cai_assets.reports.stress import CLARITY_COLUMNS, PAIR_COLUMNS, clarity_rows, pair_rows, sentences
    from cai_assets.reports.text.terminal import terminal_table

    for title, columns, rows in ((f"pairs of principles of {version}", PAIR_COLUMNS, pair_rows(found)),
                                 ("how clear each principle is", CLARITY_COLUMNS, clarity_rows(found))):
        table = terminal_table(*columns, title=title)
        for row in rows:
            table.add_row(*map(str, row))
        out.print(table, markup=False)
    for line in [*sentences(found), *made.told]:
        _say(line)
    for pair in found.opposed:
        for e in pair.examples[:1]:
            texts = {"prompt": e.prompt, f"preferred by {pair.first}": e.kept_first,
                     f"preferred by {pair.second}": e.kept_second}
            for what, text in texts.items():
                _say(f"  {what}: {shorten(' '.join(visible(text).split()), EXCERPT)}")
    _say(f"Written to {page}")


def _say(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)


def _log(line: str) -> None:
    err.print(line, style="dim", markup=False, highlight=False)
