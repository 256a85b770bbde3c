"""``cai lint``: constitution files and their tests, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cai_assets.cli.common import Scale, Set, app, err, out, parse_overrides, read_settings, stop
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


@app.command()
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders; default: constitutions/")] = None,
    scale: Scale = None, set_: Set = None,
) -> None:
    """Check constitutions and their tests: errors with line and column, then advice. Exits with 1 if there are errors.

    To find principles that are never drawn, it uses the prompts and rounds in the settings.
    """
    settings = read_settings(parse_overrides(scale, set_))
    files = _constitutions(paths or [settings.constitutions])
    draws, repeated = _draws(settings), twice(files)
    for problem in repeated.values():
        _error(problem)
    bad = [_lint(path, draws) for path in files]
    raise typer.Exit(1 if any(bad) or repeated else 0)


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


def _lint(path: Path, draws: Sequence[Draws] | None) -> bool:
    """Print what there is to say of a constitution and its tests; return whether there are errors."""
    tests = cases_path(path.parent, path.stem)
    if tests.exists() and not path.exists():
        _error(f"{tests}:1:1: these tests have no constitution {path.name}: rename one of the two")
        return True
    try:
        loaded = load_file(path)
    except FileError as e:
        _error(str(e))
        return True
    cases, problem = _tests(tests, loaded)
    findings = [*find(loaded, draws=draws or ()), *([] if draws is not None else [NOT_MEASURED])]
    findings += lint_cases(loaded, cases) if cases else [] if problem else [_untested(tests)]
    tested = f", {len(cases.cases)} test{'s' * (len(cases.cases) != 1)}" if cases else ""
    out.print(f"[b]{path.name}[/b]: {len(loaded.principles)} principles{tested}, version key {partition_key(loaded)}",
              soft_wrap=True)
    for line in _lines(findings):
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if problem:
        _error(problem)
    return bool(problem) or any(f.level == "error" for f in findings)


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
