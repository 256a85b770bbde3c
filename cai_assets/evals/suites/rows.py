"""From the rows of a case file to cases.

Guarantee: every row read is a case, a repeat of one, a reject with its place and reason, or left out by the suite's
``where``. The request is read as everywhere (``reading/rows.py``), so that AdvBench, HarmBench, XSTest, JailbreakBench,
hh-rlhf, MMLU and ARC load unchanged; ``columns`` names others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cai_assets.engines.protocol import Message
from cai_assets.evals.suites.model import LETTERS, Case, Reject, SuiteFile
from cai_assets.reading.faults import RowFault, columns_of
from cai_assets.reading.files import Raw
from cai_assets.reading.rows import PROMPTS, Row, fields_of, prompt_column, prompt_of
from cai_assets.steps.prompt_rows import check_row, check_text, excerpt, normalize
from cai_assets.store.canonical import tagged_hash

USUAL: dict[str, tuple[str, ...]] = {
    "id": ("id", "BehaviorID"),
    "category": ("category", "Category", "SemanticCategory", "subject", "type"),
    "prefill": ("prefill", "target", "Target"),
    "choices": ("choices", "options"),
    "answer": ("answer", "answerKey"),
}

UNSAFE = {"unsafe", "harmful", "toxic"}


class Read(NamedTuple):
    """What a case file holds. ``skipped``: rows left out by ``where``; ``repeats``: rows equal to an earlier one."""

    cases: tuple[Case, ...]
    rejects: tuple[Reject, ...]
    skipped: int
    repeats: int


def read_cases(raws: Iterable[Raw], spec: SuiteFile, *, max_chars: int) -> Read:
    """The cases of a suite; of equal ones the first. ``max_chars`` bounds a request."""
    cases: dict[str, Case] = {}
    seen: set[str] = set()
    rejects, skipped, repeats = [], 0, 0
    for raw in raws:
        try:
            row = fields_of(raw.value, spec.columns, "named columns")
            if not _wanted(row, spec):
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


def _wanted(row: Row, spec: SuiteFile) -> bool:
    for column, allowed in spec.where.items():
        if column not in row:
            raise RowFault(f"'where' asks for column '{column}'; {columns_of(row)}")
        if str(row[column]) not in allowed:
            return False
    if spec.kind == "over-refusal" and not spec.where.keys() & {"label", "type"} and _is_unsafe(row):
        raise RowFault("labeled unsafe: to refuse it is right, and an over-refusal suite asks what is safe; say with "
                       "'where' which rows to ask")
    return True


def _is_unsafe(row: Row) -> bool:
    """XSTest's unsafe prompts stand in one file with the safe ones that they contrast with."""
    label = row.get("label")
    if isinstance(label, str) and label:
        return label.strip().casefold() in UNSAFE
    return str(row.get("type", "")).startswith("contrast_")


def _case(raw: Raw, row: Row, spec: SuiteFile, max_chars: int) -> tuple[Case, str]:
    """The case, and a hash of what is asked: equal for equal cases."""
    fields = {"messages": _messages(row), "id": _get(row, "id"), "category": _get(row, "category")}
    prompt = check_row(Raw(raw.source, raw.line, fields), max_chars=max_chars, kind="red-team")
    choices, answer = _answers(row) if spec.kind == "ability" else ((), None)
    prefill = _prefill(row, spec) if spec.kind == "prefill" else None
    behaviour = "b-" + tagged_hash("behaviour", [prompt.text, choices]).rpartition(":")[2][:16]
    same = tagged_hash("case", [prompt.messages, prefill, choices])
    name = prompt.prompt_id if fields["id"] == prompt.prompt_id else "c-" + same.rpartition(":")[2][:16]
    return Case(name, behaviour, prompt.category, prompt.messages, prompt.text, prefill, choices, answer), same


def _get(row: Row, field: str) -> object:
    """The value of a field; None where there is none."""
    return next((row[n] for n in USUAL[field] if row.get(n) not in (None, "")), None)


def _messages(row: Row) -> list[Message]:
    """The conversation up to the turn to answer."""
    if prompt_column(row) and all(row.get(n) in (None, "") for n in PROMPTS):
        raise RowFault(f"no request; {columns_of(row)}: say with 'columns: {{prompt: NAME}}' which one has it")
    return list(prompt_of(row))


def _prefill(row: Row, spec: SuiteFile) -> str:
    prefill = _get(row, "prefill") or spec.prefill
    if not isinstance(prefill, str):
        raise RowFault("no prefill: the suite's file gives none for all cases, and the row has none of its own")
    check_text(prefill)
    return prefill


def _answers(row: Row) -> tuple[tuple[str, ...], int]:
    """The choices, and the position of the right one."""
    said = _get(row, "choices")
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
    return choices, _position(_get(row, "answer"), choices, [str(x) for x in labels])


def _position(answer: object, choices: Sequence[str], labels: Sequence[str]) -> int:
    """Where the right choice is: by label, by letter, by position from 0, or by its text."""
    text = "" if isinstance(answer, bool) or answer is None else str(answer).strip()
    ways = (labels, LETTERS[: len(choices)], [str(i) for i in range(len(choices))], list(choices))
    for names in ways:
        if text and text in names:
            return names.index(text)
    raise RowFault(f"the answer {text[:40]!r} is not one of the choices: give its letter, its position from 0, or "
                   "its text")
