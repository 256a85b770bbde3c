"""``cai test``: a constitution's tests, before anything is trained by it and after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from cai_assets.cli.common import Scale, Set, app, err, open_project, out, parse_overrides, read_settings, stop
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.files import constitution_file
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution
from cai_assets.reports.text.terminal import terminal_table
from cai_assets.store.records import RecordMissing

if TYPE_CHECKING:
    import polars as pl

    from cai_assets.pipeline.constitution_tests import Tests
    from cai_assets.store.checkpoints import Checkpoint

STYLE = {"pass": "green", "fail": "red", "ungraded": "yellow"}
SHOWN = 400  # characters of an answer that fails


class UnderTest(NamedTuple):
    """What is to be tested. ``version``: its partition key, registered or not."""

    version: str
    constitution: Constitution
    tests: Tests
    policy: Checkpoint | None


@app.command(name="test")
def run_tests(
    name: Annotated[str, typer.Argument(help="A constitution's name (its current file) or a registered version")],
    case: Annotated[list[str] | None, typer.Option(help="Only the case with this ID; repeatable")] = None,
    scale: Scale = None, set_: Set = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Run a constitution's tests: does each principle act as intended? Trains nothing. Exits with 1 if a case fails."""
    project = open_project(read_settings(parse_overrides(scale, set_)))
    try:
        under_test = _under_test(project, name)
        unknown = sorted(set(case or ()) - {c.id for c in under_test.tests.cases})
        if unknown:
            stop(f"no case {', '.join(unknown)} in {under_test.tests.path}; cases: "
                 + ", ".join(c.id for c in under_test.tests.cases))
        rows = _run(project, under_test, case)
    finally:
        project.close()
    if json_:
        _print_json(under_test, rows)
    else:
        _print(under_test, rows, whole=not case)
    raise typer.Exit(1 if "fail" in rows["outcome"] else 0)


def _under_test(project: Any, name: str) -> UnderTest:
    """Of a file every case must name a principle that it has; of a registered version others are left out."""
    from cai_assets.constitution.cases import cases_path, load_cases
    from cai_assets.pipeline.constitution_tests import Tests, tests_of, tests_path

    folder = project.settings.constitutions
    if (file := constitution_file(folder, name)).exists():
        constitution = load_file(file)
        path, version = cases_path(folder, name), partition_key(constitution)
        if path.exists():
            load_cases(path, constitution)
            return UnderTest(version, constitution, Tests.read(path, constitution), _policy(project, version))
    else:
        constitution, path, version = project.snapshots.load(name), tests_path(project, name), name
        if tests := tests_of(project, name):
            return UnderTest(version, constitution, tests, _policy(project, version))
    stop(f"{name} has no tests: {path} does not exist; docs/constitution-tests.md shows how to write it")


def _policy(project: Any, version: str) -> Checkpoint | None:
    from cai_assets.pipeline.constitution_tests import POLICY
    from cai_assets.pipeline.roles import checkpoint_of

    try:
        return checkpoint_of(project, project.records.latest(POLICY, version))
    except RecordMissing:
        return None


def _run(project: Any, under_test: UnderTest, only: list[str] | None) -> pl.DataFrame:
    from cai_assets.pipeline.context import Context
    from cai_assets.pipeline.evaluation import constitution_tests

    run = Context(project, under_test.version, _log)
    run.constitution = under_test.constitution  # which need not be registered
    return constitution_tests(run, under_test.tests, only=only).rows


def _log(line: str) -> None:
    err.print(line, style="dim", markup=False, highlight=False)


def _print_json(under_test: UnderTest, rows: pl.DataFrame) -> None:
    from cai_assets.reports.constitution_tests import case_results, numbers

    results = [{**r._asdict(), "rows": list(r.rows)} for r in case_results(rows)]
    tests, policy = under_test.tests, under_test.policy
    out.print_json(json.dumps({
        "version": under_test.version, "tests": str(tests.path), "policy": policy.key if policy else None,
        **numbers(rows), "results": results, "left_out": [c.id for c in tests.left_out],
        "untested": list(tests.untested)}))


def _print(under_test: UnderTest, rows: pl.DataFrame, *, whole: bool) -> None:
    from cai_assets.reports.constitution_tests import acted, verdict

    out.print(_table(f"tests of {under_test.version}", rows))
    for line in [*_failed(rows), *acted(rows)]:
        _say(line)
    some = f"{rows['case'].n_unique()} of {len(under_test.tests.cases)} cases ran"
    _say(verdict(rows, under_test.tests.as_dict())[1] if whole else some)
    if not under_test.policy:
        _say("No policy of this version has been trained yet: only the principles' effects were tested.")


def _table(title: str, rows: pl.DataFrame) -> Table:
    from cai_assets.reports.constitution_tests import SIGN
    from cai_assets.reports.escape import visible

    table = terminal_table("case", "subject", "condition", "outcome", "why", title=title,
                           whole={"case", "subject", "outcome"})
    last = ""
    for r in rows.iter_rows(named=True):
        sign = Text(SIGN[r["outcome"]], style=STYLE[r["outcome"]])
        case = "" if r["case"] == last else r["case"]
        table.add_row(case, r["subject"], Text(visible(r["condition"])), sign, Text(visible(r["why"])))
        last = r["case"]
    return table


def _failed(rows: pl.DataFrame) -> list[str]:
    """The texts behind each failure."""
    from cai_assets.reports.escape import shorten, visible

    lines, seen = [], set[tuple[str, str]]()
    for r in rows.filter(outcome="fail").iter_rows(named=True):
        who = (r["case"], r["subject"])
        if who not in seen and r["subject"] in {"revision", "policy"}:
            texts = {"first answer": r["before"], r["subject"]: r["response"]}
            lines += [f"{r['case']}, {what}: {shorten(' '.join(visible(text).split()), SHOWN)}"
                      for what, text in texts.items() if text]
        seen.add(who)
    return lines


def _say(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
