"""From the rows of a case file to cases.

Guarantee: every row read is a case, a repeat of one, a reject with its place and reason, or left out by the suite's
``where``. Columns are found by the names that public sets use, so that AdvBench, HarmBench, XSTest, JailbreakBench,
hh-rlhf, MMLU and ARC load unchanged; ``columns`` names others.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cai_assets.engines.protocol import Message
from cai_assets.evals.suites.model import LETTERS, Case, Columns, Reject, SuiteFile
from cai_assets.steps.comparison_files import transcript_turns
from cai_assets.steps.prompt_files import PromptsError, Raw, RowFault, parse_line, printable, read_files
from cai_assets.steps.prompt_rows import check_row, check_text, excerpt, message_of, normalize
from cai_assets.store.canonical import tagged_hash

SUFFIXES = (".csv", ".jsonl", ".jsonl.gz", ".parquet", ".arrow")
USUAL: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "goal", "Goal", "behavior", "Behavior", "question", "Question", "instruction", "messages",
               "conversations", "text", "chosen"),
    "id": ("id", "BehaviorID"),
    "category": ("category", "Category", "SemanticCategory", "subject", "type"),
    "context": ("context", "ContextString"),
    "prefill": ("prefill", "target", "Target"),
    "choices": ("choices", "options"),
    "answer": ("answer", "answerKey"),
}


class Read(NamedTuple):
    """What a case file holds. ``skipped``: rows left out by ``where``; ``repeats``: rows equal to an earlier one."""

    cases: tuple[Case, ...]
    rejects: tuple[Reject, ...]
    skipped: int
    repeats: int


def read_cases(raws: Iterator[Raw], spec: SuiteFile, *, max_chars: int) -> Read:
    """The cases of a suite; of equal ones the first. ``max_chars`` bounds a request."""
    cases: dict[str, Case] = {}
    seen: set[str] = set()
    rejects, skipped, repeats = [], 0, 0
    for raw in raws:
        try:
            row = _row(raw)
            if not _wanted(row, spec.where):
                skipped += 1
                continue
            case, same = _case(raw, row, spec, max_chars)
            if same in seen:
                repeats += 1
                continue
            if case.case_id in cases:
                raise RowFault(f"id '{case.case_id}' already names another case")
        except RowFault as fault:
            rejects.append(Reject(f"{raw.source}:{raw.line}", str(fault), excerpt(raw)))
        else:
            seen.add(same)
            cases[case.case_id] = case
    return Read(tuple(cases.values()), tuple(rejects), skipped, repeats)


def columns_of(spec: SuiteFile) -> list[str]:
    """Every column that a suite may read."""
    named = [name for name in spec.columns.model_dump().values() if name]
    return [*named, *spec.where, *(name for usual in USUAL.values() for name in usual)]


def raw_rows(path: Path, columns: Sequence[str]) -> Iterator[Raw]:
    """Every row of a file, with at least these columns. Raise PromptsError for a file that cannot be read at all."""
    if not path.name.endswith(SUFFIXES):
        raise PromptsError(f"{path}: cannot read '{path.suffix}' files; give {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".csv":
            yield from _csv(path)
        elif path.suffix == ".gz":
            with gzip.open(path) as f:
                yield from (Raw(path.name, n, parse_line(line)) for n, line in enumerate(f, start=1))
        else:
            yield from read_files([path], columns)
    except UnicodeDecodeError as e:
        raise PromptsError(f"{path}: not UTF-8 (byte {e.start}); save it as UTF-8, in a spreadsheet 'CSV UTF-8'") from e
    except (OSError, EOFError, csv.Error) as e:
        raise PromptsError(f"{path}: {e}; check that the file exists and is complete") from e


def _csv(path: Path) -> Iterator[Raw]:
    with path.open(encoding="utf-8-sig", newline="") as f:
        header = f.readline()
        f.seek(0)
        # spreadsheets in many locales separate cells by semicolons
        reader = csv.DictReader(f, restkey="(too many cells)", delimiter=max(",;\t", key=header.count))
        for row in reader:
            short = [name for name, cell in row.items() if cell is None]
            fault = RowFault(f"fewer cells than columns: {', '.join(short)} missing") if short else None
            yield Raw(path.name, reader.line_num, fault or row)


def _row(raw: Raw) -> Mapping[str, object]:
    if isinstance(raw.value, RowFault):
        raise raw.value
    if not isinstance(raw.value, Mapping):
        raise RowFault("expected an object with named columns")
    return raw.value


def _wanted(row: Mapping[str, object], where: Mapping[str, Sequence[str]]) -> bool:
    for column, allowed in where.items():
        if column not in row:
            raise RowFault(f"'where' asks for column '{column}'; {_columns(row)}")
        if str(row[column]) not in allowed:
            return False
    return True


def _case(raw: Raw, row: Mapping[str, object], spec: SuiteFile, max_chars: int) -> tuple[Case, str]:
    """The case, and a hash of what is asked: equal for equal cases."""
    columns = spec.columns
    messages = _messages(_get(row, "prompt", columns), _get(row, "context", columns), row)
    fields = {"messages": messages, "id": _get(row, "id", columns), "category": _get(row, "category", columns)}
    prompt = check_row(Raw(raw.source, raw.line, fields), max_chars=max_chars, kind="red-team")
    choices, answer = _answers(row, columns) if spec.kind == "ability" else ((), None)
    prefill = _prefill(row, spec) if spec.kind == "prefill" else None
    behaviour = "b-" + tagged_hash("behaviour", [prompt.text, choices]).rpartition(":")[2][:16]
    same = tagged_hash("case", [prompt.messages, prefill, choices])
    name = prompt.prompt_id if fields["id"] == prompt.prompt_id else "c-" + same.rpartition(":")[2][:16]
    return Case(name, behaviour, prompt.category, prompt.messages, prompt.text, prefill, choices, answer), same


def _get(row: Mapping[str, object], field: str, columns: Columns) -> object:
    """The value of a field; None where there is none."""
    name = getattr(columns, field)
    if name is not None and name not in row:
        raise RowFault(f"'columns' says that '{field}' is in column '{name}'; {_columns(row)}")
    names = USUAL[field] if name is None else (name,)
    return next((row[n] for n in names if row.get(n) not in (None, "")), None)


def _columns(row: Mapping[str, object]) -> str:
    return "the columns are " + ", ".join(printable(str(name))[:60] for name in list(row)[:20])


def _messages(request: object, context: object, row: Mapping[str, object]) -> list[Message]:
    """The conversation up to the turn to answer."""
    if request is None:
        raise RowFault(f"no request; {_columns(row)}: say with 'columns: {{prompt: NAME}}' which one has it")
    if isinstance(request, list):
        turns = [message_of(turn, f"turn {i + 1}") for i, turn in enumerate(request)]
    elif isinstance(request, str):
        turns = list(transcript_turns(request) or (Message(role="user", content=request),))
    else:
        raise RowFault(f"the request must be text or messages, found {str(request)[:40]!r}")
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    if turns and isinstance(context, str):
        turns[-1] = Message(role=turns[-1]["role"], content=f"{context}\n\n---\n\n{turns[-1]['content']}")
    return turns


def _prefill(row: Mapping[str, object], spec: SuiteFile) -> str:
    prefill = _get(row, "prefill", spec.columns) or spec.prefill
    if not isinstance(prefill, str):
        raise RowFault("no prefill: the suite's file gives none for all cases, and the row has none of its own")
    check_text(prefill)
    return prefill


def _answers(row: Mapping[str, object], columns: Columns) -> tuple[tuple[str, ...], int]:
    """The choices, and the position of the right one."""
    said = _get(row, "choices", columns)
    if isinstance(said, str) and said.lstrip().startswith("["):
        try:
            said = json.loads(said)
        except ValueError as e:
            raise RowFault(f"the choices are not a JSON list: {e}") from None
    labels: Sequence[object] = ()
    if isinstance(said, Mapping) and isinstance(said.get("text"), list):  # ARC
        labels, said = said.get("label") or (), said["text"]
    if not isinstance(said, list | tuple) or not 2 <= len(said) <= len(LETTERS):
        raise RowFault(f"needs 'choices': a list of 2 to {len(LETTERS)} answers")
    choices = tuple(str(choice) for choice in said)
    for choice in choices:
        check_text(choice)
    if len(set(map(normalize, choices))) < len(choices):
        raise RowFault("two choices are the same text")
    return choices, _position(_get(row, "answer", columns), choices, [str(x) for x in labels])


def _position(answer: object, choices: Sequence[str], labels: Sequence[str]) -> int:
    """Where the right choice is: by label, by letter, by position from 0, or by its text."""
    text = "" if isinstance(answer, bool) or answer is None else str(answer).strip()
    ways = (labels, LETTERS[: len(choices)], [str(i) for i in range(len(choices))], list(choices))
    for names in ways:
        if text and text in names:
            return names.index(text)
    raise RowFault(f"the answer {text[:40]!r} is not one of the choices: give its letter, its position from 0, or "
                   "its text")
