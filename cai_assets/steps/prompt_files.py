"""Read prompt files of every supported form as a stream of raw rows.

Guarantee: one ``Raw`` for each line of a JSONL file and each row of a Parquet or Arrow file, in order, whatever
the bytes are. A row that cannot be read carries the reason; only a file that cannot be read at all is an error.
A folder is a Hugging Face data set: Parquet or JSONL files at any depth, or what ``save_to_disk`` wrote (Arrow).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.errors import CaiError

SUFFIXES = (".jsonl", ".parquet", ".arrow")
COLUMNS = ("id", "kind", "category", "split", "prompt", "messages", "conversations", "question", "instruction",
           "text", "input", "origin")
SPLITS = {
    "train": "train", "training": "train", "test": "evaluation", "validation": "evaluation", "valid": "evaluation",
    "val": "evaluation", "dev": "evaluation", "eval": "evaluation", "evaluation": "evaluation",
}
KINDS = {"red": "red-team", "redteam": "red-team", "harmful": "red-team", "helpful": "helpful", "harmless": "helpful"}


class PromptsError(CaiError, ValueError):
    """A prompt file or folder that cannot be read at all. The message says which, why and what to do."""


class RowFault(CaiError, ValueError):
    """Why one row cannot be used. ``excerpt`` is set when the row could not even be parsed."""

    def __init__(self, reason: str, excerpt: str = "") -> None:
        super().__init__(reason)
        self.excerpt = excerpt


@dataclass(frozen=True)
class Raw:
    """One row as found: its place, its value (or the fault met in reading it) and what the file name says about it.

    ``line`` counts from 1. ``split`` and ``kind`` are None where the file name says nothing.
    """

    source: str
    line: int
    value: object
    split: str | None = None
    kind: str | None = None


def read_files(paths: Sequence[Path], columns: Sequence[str] = COLUMNS) -> Iterator[Raw]:
    """Yield every row of every file, files in the order given and those of a folder by name.

    Of Parquet and Arrow files only ``columns`` are read, where they are.
    """
    for path in paths:
        if path.is_dir():
            yield from _read_folder(path, columns)
        else:
            yield from _read_file(path, path.name, None, columns)


def words(name: str) -> list[str]:
    """The lower-case words of a name: ``test_prefs-00000`` has test, prefs and 00000."""
    return [w for w in re.split(r"[^a-z0-9]+", name.casefold()) if w]


def one_of(name: str, label_of: dict[str, str]) -> str | None:
    """What the words of ``name`` mean, or None if they mean nothing or contradict each other."""
    labels = {label_of[w] for w in words(name) if w in label_of}
    return labels.pop() if len(labels) == 1 else None


def _read_folder(folder: Path, columns: Sequence[str]) -> Iterator[Raw]:
    files = sorted(p for p in folder.rglob("*") if _is_data(p.relative_to(folder)) and p.is_file())
    if not files:
        raise PromptsError(f"{folder}: no {', '.join(SUFFIXES)} file inside; give a data set folder that has some")
    for file in files:
        inside = file.relative_to(folder)
        meant = (one_of(part, SPLITS) for part in reversed(inside.parts))
        yield from _read_file(file, f"{folder.name}/{inside.as_posix()}", next((m for m in meant if m), None), columns)


def _is_data(inside: PurePath) -> bool:
    # 'cache-*.arrow' are results that the datasets library keeps beside a data set: not rows of it.
    return (inside.suffix in SUFFIXES and not inside.name.startswith("cache-")
            and not any(part.startswith(".") for part in inside.parts))


def _read_file(path: Path, source: str, split: str | None, columns: Sequence[str]) -> Iterator[Raw]:
    readers = {".jsonl": _jsonl, ".parquet": _parquet, ".arrow": _arrow}
    if path.suffix not in readers:
        raise PromptsError(f"{path}: cannot read '{path.suffix}' files; give {', '.join(SUFFIXES)} or a folder")
    kind, source = one_of(path.stem, KINDS), printable(source)
    try:
        for line, value in enumerate(readers[path.suffix](path, columns), start=1):
            yield Raw(source, line, value, split, kind)
    except (OSError, pa.ArrowException) as e:
        raise PromptsError(f"{path}: {e}; check that the file exists and is whole") from e


def _jsonl(path: Path, _: Sequence[str]) -> Iterator[object]:
    with path.open("rb") as f:
        for number, line in enumerate(f):
            yield parse_line(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line)


def parse_line(line: bytes) -> object:
    """The value of a line of JSONL, or the fault in it."""
    try:
        return json.loads(line.decode()) if line.strip() else RowFault("blank line")
    except UnicodeDecodeError as e:
        return RowFault(f"not UTF-8: byte {e.start + 1} of the line", line[:400].decode(errors="backslashreplace"))
    except (ValueError, RecursionError) as e:
        what = "nested too deeply" if isinstance(e, RecursionError) else str(e)
        return RowFault(f"not JSON: {what}", line[:400].decode(errors="backslashreplace"))


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[object]:
    with pq.ParquetFile(path) as file:
        present = [c for c in columns if c in file.schema_arrow.names]
        yield from _rows(file.iter_batches(batch_size=4096, columns=present))


def _arrow(path: Path, columns: Sequence[str]) -> Iterator[object]:
    with pa.memory_map(str(path)) as source:
        try:
            batches: Iterable[Any] = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        yield from _rows(b.select([c for c in columns if c in b.schema.names]) for b in batches)


def _rows(batches: Iterable[Any]) -> Iterator[object]:
    for batch in batches:
        batch.validate()
        try:
            yield from batch.to_pylist()
        except UnicodeDecodeError:  # a column of strings may hold any bytes: find the rows that do
            yield from (_row(batch.slice(i, 1)) for i in range(batch.num_rows))


def _row(batch: Any) -> object:
    try:
        row: object = batch.to_pylist()[0]
    except UnicodeDecodeError as e:
        return RowFault("not UTF-8", e.object[:400].decode(errors="backslashreplace"))
    return row


def printable(text: str) -> str:
    """Escape everything that could move a cursor, hide or reorder text: safe to print, never to parse back."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
