"""What a file holds, whatever its form: data of JSON, JSON Lines, YAML or CSV, or prose."""

from __future__ import annotations

import csv
import io
import json
from pathlib import PurePath
from typing import Any, NamedTuple

from cai_assets.constitution.file_text import FileError, Mark, Problem, Stop, decode
from cai_assets.constitution.model import Constitution
from cai_assets.constitution.reader import Form, Reader, short
from cai_assets.store.files import LFS_POINTER
from cai_assets.store.json_text import RepeatedName, parse_json

PROSE = {".md", ".markdown", ".txt", ".text", ".rst"}
TABLES = {".csv": ",", ".tsv": "\t"}
ANY = Form(noun="constitution", needs="principles", unique="", models={(): Constitution})


class ImportFailed(FileError):
    """A file from which no constitution can be made. The message says why."""


class Document(NamedTuple):
    """``data``: dicts, lists and texts; None where the file is prose, which ``text`` is then."""

    form: str
    text: str
    data: Any = None


def read_document(raw: bytes | str, where: str) -> Document:
    """Read a file. ``where`` is what problems call it, and its ending decides what its content does not tell.

    Raise ImportFailed.
    """
    suffix = PurePath(where).suffix.lower()
    try:
        text = decode(raw, ANY.noun)
        if text.startswith(LFS_POINTER.decode()):
            raise Stop(Mark(1, 1), "is a Git LFS pointer, not the file itself: run git lfs pull")
        return _read(text, suffix)
    except Stop as stop:
        raise ImportFailed([Problem(where, *stop.mark, stop.message)]) from None


def _read(text: str, suffix: str) -> Document:
    if suffix in TABLES:
        return Document("CSV" if suffix == ".csv" else "TSV", text, _table(text, TABLES[suffix]))
    if text.lstrip()[:1] in {"{", "["}:
        if found := _json(text) or _json_lines(text):
            return found
        if suffix in {".json", ".jsonl"} and not _as_yaml(text):
            raise _not_json(text)
    elif suffix in PROSE:
        return Document("Markdown" if suffix in {".md", ".markdown"} else "text", text)
    data = Reader(ANY).read(text)  # every scalar as the text that it is: 1.10 stays 1.10
    return Document("YAML", text, data) if isinstance(data, dict | list) else Document("text", text)


def _json(text: str) -> Document | None:
    try:
        return Document("JSON", text, _value(text))
    except ValueError:
        return None


def _json_lines(text: str) -> Document | None:
    try:
        lines = [_value(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        return None
    return Document("JSON Lines", text, lines)


def _as_yaml(text: str) -> bool:
    """Whether it is JSON with a comma too many, or with comments, which YAML has too."""
    try:
        return isinstance(Reader(ANY).read(text), dict | list)
    except Stop:
        return False


def _not_json(text: str) -> Stop:
    try:
        json.loads(text)
    except json.JSONDecodeError as e:
        return Stop(Mark(e.lineno, e.colno), f"not valid JSON: {e.msg}; is the file whole?")
    except RecursionError:
        pass
    return Stop(Mark(1, 1), "not valid JSON: nested too deep")


def _value(text: str) -> Any:
    """The value of JSON. Raise ValueError if it is not JSON, and Stop for a key that is given twice."""
    try:
        return parse_json(text)
    except RepeatedName as e:
        raise Stop(Mark(1, 1), f"the key {short(e.name)} is given twice in one object: keep one") from None


def _table(text: str, delimiter: str) -> list[dict[str, Any]]:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as e:
        raise Stop(Mark(1, 1), f"is not a table that can be read: {e}") from None
    for i, row in enumerate(rows):
        if None in row:
            raise Stop(Mark(i + 2, 1), "has more cells than the table has columns: put texts with commas in quotes")
    return rows
