"""``cai lint``: constitution files and their tests, before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cai_assets.cli.common import AsJson, Scale, Set, app, err, out, parse_overrides, read_settings, stop
from cai_assets.constitution.cases import Cases, cases_path, load_cases
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.file_text import FileError
from cai_assets.constitution.files import is_tests, tested_file, twice, yaml_files
from cai_assets.constitution.lint import Draws, Finding, lint_cases
from cai_assets.constitution.lint import lint as find
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution
from cai_assets.settings import Settings
from cai_assets.store.layout import Layout
from cai_assets.store.records import RecordMissing, Records

if TYPE_CHECKING:
    import polars as pl

QUICK = 4 * 1024 * 1024  # bytes of prompt files that are read for advice; near-duplicates of more take minutes to find
NOT_MEASURED = Finding("note", None, "which principles are never drawn is not known until the prompts are: run cai "
                                     "materialize VERSION --select prompts")


class Linted(NamedTuple):
    """A constitution file. ``problem``: why it, or its tests, cannot be read."""

    path: Path
    problem: str = ""
    constitution: Constitution | None = None
    tests: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def bad(self) -> bool:
        return bool(self.problem) or any(f.level == "error" for f in self.findings)


@app.command()
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders; default: constitutions/")] = None,
    scale: Scale = None, set_: Set = None, json_: AsJson = False,
) -> None:
    """Check constitutions and their tests: errors with line and column, then advice. Exits with 1 if there are errors.

    To find principles that are never drawn, it uses the prompts and rounds in the settings.
    """
    settings = read_settings(parse_overrides(scale, set_))
    files = _constitutions(paths or [settings.constitutions])
    draws, repeated = _draws(settings), twice(files)
    for problem in repeated.values():
        _error(problem)
    linted = [_lint(path, draws) for path in files]
    if json_:
        typer.echo(json.dumps([_as_dict(one) for one in linted], indent=1, ensure_ascii=False))
    for one in () if json_ else linted:
        _show(one)
    raise typer.Exit(1 if any(one.bad for one in linted) or repeated else 0)


def _constitutions(paths: Sequence[Path]) -> list[Path]:
    """Constitution files, each once; a file of tests stands for its constitution, which may be missing.

    A folder stands for the files in it; one without any is an error.
    """
    given = []
    for path in paths:
        given += (inside := yaml_files(path)) if path.is_dir() else [path]
        if path.is_dir() and not inside:
            stop(f"no constitution files (*.yaml, *.yml) in {path}: write one, or make one of a published constitution "
                 "with: cai import FILE --out NAME.yaml")
    return list(dict.fromkeys(tested_file(p) if is_tests(p) else p for p in given))


def _lint(path: Path, draws: Sequence[Draws] | None) -> Linted:
    """What there is to say of a constitution and its tests."""
    tests = cases_path(path.parent, path.stem)
    if tests.exists() and not path.exists():
        return Linted(path, f"{tests}:1:1: these tests have no constitution {path.name}: rename one of the two")
    try:
        loaded = load_file(path)
    except FileError as e:
        return Linted(path, str(e))
    cases, problem = _tests(tests, loaded)
    findings = [*find(loaded, draws=draws or ()), *([] if draws is not None else [NOT_MEASURED])]
    findings += lint_cases(loaded, cases) if cases else [] if problem else [_untested(tests)]
    return Linted(path, problem, loaded, len(cases.cases) if cases else 0, tuple(findings))


def _show(linted: Linted) -> None:
    if linted.constitution:
        tested = f", {linted.tests} test{'s' * (linted.tests != 1)}" if linted.tests else ""
        out.print(f"[b]{linted.path.name}[/b]: {len(linted.constitution.principles)} principles{tested}, version key "
                  f"{partition_key(linted.constitution)}", soft_wrap=True)
    for line in _lines(linted.findings):
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if linted.problem:
        _error(linted.problem)


def _as_dict(linted: Linted) -> dict[str, Any]:
    of = linted.constitution
    return {"file": str(linted.path), "version": partition_key(of) if of else None,
            "principles": len(of.principles) if of else None, "tests": linted.tests, "error": linted.problem or None,
            "findings": [f._asdict() for f in linted.findings]}


def _tests(path: Path, constitution: Constitution) -> tuple[Cases | None, str]:
    """The tests, if there are any, or what is wrong with them."""
    try:
        return (load_cases(path, constitution) if path.exists() else None), ""
    except FileError as e:
        return None, str(e)


def _untested(tests: Path) -> Finding:
    return Finding("note", None, f"has no tests: add {tests.name} next to it (docs/constitution-tests.md)")


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    """One line for each message; principles of which the same is to be said share it."""
    of: dict[tuple[str, str], list[str]] = {}
    for f in findings:
        of.setdefault((f.level, f.message), []).append(f.principle or "constitution")
    for (level, message), names in of.items():
        yield f"{level}: {', '.join(names)}: {message}"


def _draws(settings: Settings) -> list[Draws] | None:
    """What a run with these settings would draw; None if its prompts are not known without much work."""
    from cai_assets.steps.draws import draws_of

    prompts = _prompts(settings)
    return None if prompts is None else draws_of(settings, prompts)


def _prompts(settings: Settings) -> pl.DataFrame | None:
    """The prompts as they were materialized with these settings; else read now, if that is quick."""
    from cai_assets.pipeline.contents import comparable, of_record, of_settings
    from cai_assets.reading.faults import DataError
    from cai_assets.steps.prompts import load_prompts, select

    chosen = settings.prompts
    layout = Layout(settings.data_root)
    records = Records(layout)
    try:
        record = records.latest("prompts", None)
        now = of_settings(settings, layout, ["prompts"])
        before, here = comparable(of_record(record), now)
        if before["prompts"] == here["prompts"]:
            return records.table(record)
    except (RecordMissing, OSError):
        pass  # then as if they had not been made
    if sum(p.stat().st_size for path in chosen.paths for p in _files(path)) > QUICK:
        return None
    try:
        loaded = load_prompts(chosen.paths, max_chars=chosen.max_chars, columns=chosen.columns)
        return select(loaded.frame, chosen, seed=settings.seed, first=loaded.origins["prompt_id"].to_list())
    except DataError as e:
        _error(str(e))
        return None


def _files(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path] if path.exists() else []


def _error(message: str) -> None:
    err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
