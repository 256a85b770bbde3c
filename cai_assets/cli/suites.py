"""``cai suites``: which suites exist, what is in them, and any problems with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cai_assets.cli.common import Scale, Set, app, err, out, parse_overrides, read_settings, stop
from cai_assets.reports.text.terminal import terminal_table

SHOWN = ("suite", "kind", "cases", "unusable", "modes", "where")
MOST = 3  # unusable rows reported per suite
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Check = Annotated[bool, typer.Option("--check", help="Exit with 1 if a suite, or one of its rows, cannot be used")]


@app.command()
def suites(check: Check = False, json_: AsJson = False, scale: Scale = None, set_: Set = None) -> None:
    """List the bundled suites and those in evaluation.suites_folder, and any problems with them."""
    from cai_assets.evals.suites.load import SuiteError
    from cai_assets.evals.suites.registry import read_suites, refuse_no_folder, suite_files

    settings = read_settings(parse_overrides(scale, set_))
    folder = settings.evaluation.suites_folder
    refuse_no_folder(settings.evaluation)
    if check and not folder.is_dir():
        stop(f"nothing to check: no folder {folder} with suites of yours (evaluation.suites_folder); docs/suites.md")
    files = suite_files(folder)
    suites = read_suites(files, max_chars=settings.prompts.max_chars)
    rows = [_row(name, files[name], None if isinstance(suite, SuiteError) else suite) for name, suite in suites.items()]
    problems = [str(suite) for suite in suites.values() if isinstance(suite, SuiteError)]
    problems += [problem for name, suite in suites.items() if not isinstance(suite, SuiteError)
                 for problem in _unusable(files[name], suite, all_=json_)]
    if json_:
        out.print_json(json.dumps({"suites": rows, "problems": problems}))
    else:
        _print(rows)
        for problem in problems:
            err.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
        out.print("To add your own, put a YAML file in "
                  f"{settings.evaluation.suites_folder} (docs/suites.md). evaluation.suites selects "
                  "which suites run; default: all.", markup=False, highlight=False, soft_wrap=True)
    if check and problems:
        raise typer.Exit(1)


def _unusable(path: Path, suite: Any, *, all_: bool) -> list[str]:
    lines = [f"{path}: {r.place}: {r.reason}" for r in suite.rejects]
    more = len(lines) - MOST
    if all_ or more <= 1:
        return lines
    return [*lines[:MOST], f"{path}: {more} more rows cannot be used (--json lists all)"]


def _row(name: str, path: Path, suite: Any) -> dict[str, Any]:
    from cai_assets.evals.suites.registry import BUNDLED

    where = "bundled" if path.parent == BUNDLED else str(path)
    if suite is None:
        return {"suite": name, "kind": "unusable", "cases": 0, "templates": 0, "modes": [], "measure": "",
                "unusable": 0, "where": where, "description": "", "source": ""}
    spec = suite.spec
    return {"suite": name, "kind": spec.kind, "cases": len(suite.cases), "templates": len(suite.templates),
            "modes": list(spec.asked_modes), "measure": spec.measure, "unusable": len(suite.rejects), "where": where,
            "description": spec.description, "source": spec.source or ""}


def _print(rows: list[dict[str, Any]]) -> None:
    table = terminal_table(*SHOWN, right={"cases", "unusable"}, whole={*SHOWN} - {"where"})
    for row in rows:
        table.add_row(*("\n".join(row[n]) if n == "modes" else str(row[n] or "") for n in SHOWN))
    out.print(table)
