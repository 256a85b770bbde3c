"""Reads a suite's file, strictly, and the files beside it.

Guarantees: every problem in the YAML is reported at its line and column; unusable rows of a case file are reported with
their place, and the others are used; no file outside the suite's own folder is read, whatever the suite says.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cai_assets.constitution.file_text import FileError, Problem, read_bytes
from cai_assets.constitution.reader import Form, Reader
from cai_assets.constitution.strict import parse_form
from cai_assets.evals.measures import headlines_on
from cai_assets.evals.suites.model import (
    MODES,
    PLACE,
    POOLED,
    Inline,
    Suite,
    SuiteFile,
    Template,
)
from cai_assets.evals.suites.rows import Read, read_cases
from cai_assets.reading.faults import DataError, RowFault
from cai_assets.reading.files import Raw, RowReader
from cai_assets.settings.columns import READ, Columns
from cai_assets.steps.prompt_rows import check_text
from cai_assets.store.canonical import tagged_hash


class SuiteError(FileError):
    """A suite that cannot be used. ``problems``: all that were found, in file order."""


FORM = Form(
    noun="suite", needs="'kind', 'description', and 'cases' or 'file'", unique="cases", given=frozenset({"name"}),
    models={(): SuiteFile, ("columns",): Columns, ("cases",): Inline, ("templates",): Template},
)


def load_suite(path: Path, *, max_chars: int) -> Suite:
    """Read a suite; its file's stem is its name. Raise SuiteError for whatever is wrong with it."""
    spec = parse_form(read_bytes(path, SuiteError), FORM, SuiteFile, where=str(path), error=SuiteError,
                      given={"name": path.stem}, check=_check)
    try:
        read = read_cases(_raws(path, spec), spec, max_chars=max_chars)
        templates = _templates(path, spec)
    except DataError as e:
        raise _error(path, str(e)) from e
    if not read.cases:
        raise _error(path, _why_empty(read))
    wanted = any(mode.startswith("wrapped") for mode in spec.asked_modes)
    content = [spec.kind, spec.asked_modes, spec.safety_prompt, read.cases,
               [t.model_dump() for t in templates] if wanted else []]
    return Suite(spec, path, read.cases, templates, read.rejects, read.skipped, read.repeats,
                 tagged_hash("suite", content))


def _error(path: Path, message: str) -> SuiteError:
    return SuiteError([Problem(str(path), 1, 1, message)])


def _why_empty(read: Read) -> str:
    if read.rejects:
        return f"no case can be used; the first row: {read.rejects[0].place}: {read.rejects[0].reason}"
    return f"no case: 'where' excluded all {read.skipped} rows" if read.skipped else "no case: the case file is empty"


def _check(spec: SuiteFile, reader: Reader) -> None:
    """What the schema cannot express: which parts belong together."""
    if spec.name == POOLED:
        reader.report((), f"a suite cannot be called '{POOLED}': that is all attacks together; rename the file")
    if (spec.file is None) == (not spec.cases):
        reader.report(("file",), "give either the cases here under 'cases' or the name of a 'file' beside this one")
    for i, mode in enumerate(spec.modes):
        if mode not in MODES[spec.kind]:
            reader.report(("modes", i), f"a suite of kind '{spec.kind}' has the modes {', '.join(MODES[spec.kind])}")
    if len(set(spec.modes)) < len(spec.modes):
        reader.report(("modes",), "a mode is given twice: keep one")
    _check_templates(spec, reader)
    for field in spec.columns.unread("suites"):
        reader.report(("columns", field), f"a suite has no '{field}': give {', '.join(sorted(READ['suites']))}")
    if spec.prefill and spec.kind != "prefill":
        reader.report(("prefill",), f"only a suite of kind 'prefill' begins the answer; this one is '{spec.kind}'")
    if spec.headline and spec.headline not in headlines_on(spec.kind):
        reader.report(("headline",), f"'{spec.headline}' is not measured on a suite of kind '{spec.kind}': give "
                                     + ", ".join(headlines_on(spec.kind)))
    for field in ("file", "templates_file"):
        name = getattr(spec, field)
        if name and not _plain(name):
            reader.report((field,), f"{name!r} must be the name of a file in this suite's folder, such as "
                                    f"'{spec.name}.jsonl', without '..' and not absolute")


def _check_templates(spec: SuiteFile, reader: Reader) -> None:
    if spec.templates and spec.templates_file:
        reader.report(("templates_file",), "give 'templates' or 'templates_file', not both")
    if not (spec.templates or spec.templates_file) and any(m.startswith("wrapped") for m in spec.asked_modes):
        reader.report(("modes",), "wrapped modes need 'templates' or a 'templates_file'")
    first: dict[str, int] = {}
    for i, template in enumerate(spec.templates):
        if first.setdefault(template.id, i) != i:
            reader.report(("templates", i, "id"), f"'{template.id}' is the id of an earlier template: choose another")


def _plain(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def _beside(path: Path, name: str) -> Path:
    """A file in the suite's folder; a link that leads outside is refused."""
    file = path.parent / name
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise _error(path, f"{name!r} is a link that leads outside {path.parent}: copy the file into the folder")
    if not file.is_file():
        raise _error(path, f"there is no file {file}: put it beside the suite's file")
    return file


def _raws(path: Path, spec: SuiteFile) -> Iterable[Raw]:
    if spec.file is not None:
        return RowReader([_beside(path, spec.file)], columns=spec.columns)
    return (Raw(path.name, n, case.model_dump(exclude_none=True)) for n, case in enumerate(spec.cases, start=1))


def _templates(path: Path, spec: SuiteFile) -> tuple[Template, ...]:
    if spec.templates_file is None:
        return spec.templates
    file, templates, texts = _beside(path, spec.templates_file), list[Template](), dict[str, str]()
    for raw in RowReader([file]):
        try:
            template = _template(raw)
        except RowFault as fault:
            raise _error(path, f"{raw.source}:{raw.line}: {fault}") from None
        if texts.setdefault(template.id, template.template) != template.template:
            raise _error(path, f"{raw.source}:{raw.line}: '{template.id}' is the id of an earlier template")
        templates.append(template)
    if not templates:
        raise _error(path, f"{file} has no template: each line needs 'template', with {PLACE} where the request goes")
    return tuple(templates)


def _template(raw: Raw) -> Template:
    if isinstance(raw.value, RowFault):
        raise raw.value
    text = raw.value.get("template") if isinstance(raw.value, dict) else None
    if not isinstance(text, str):
        raise RowFault(f"needs 'template', a text with {PLACE} where the request goes")
    check_text(text)
    given = raw.value.get("id") if isinstance(raw.value, dict) else None
    name = given if isinstance(given, str) and given else "t-" + tagged_hash("template", text).rpartition(":")[2][:16]
    return Template.model_construct(id=name, template=text)
