"""The form of a file, by its content: JSON Lines, one JSON array, CSV or TSV, Parquet, Arrow; also compressed.

Guarantee: one value for each row, in order, with its line or position from 1, whatever the bytes are. A row that cannot
be read is its fault; a file that holds no rows at all (a pointer, an archive, another encoding) is one error.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from cai_assets.reading.cells import table_rows
from cai_assets.reading.columnar import arrow_rows, parquet_rows
from cai_assets.reading.faults import BOM, DataError, NotRows, RowFault
from cai_assets.store.files import LFS_POINTER
from cai_assets.store.json_text import DECODER, parse_json

Rows = Iterator[tuple[int, object]]
HEAD = 1 << 16
JSON = {".jsonl", ".ndjson", ".jsonlines", ".json"}
TABLES = {".csv", ".tsv"}
PARQUET, ARROW = {".parquet", ".pq"}, {".arrow", ".ipc", ".feather"}
PACKED = {".gz", ".zst", ".bz2", ".xz"}
SUFFIXES = JSON | TABLES | PARQUET | ARROW
SPACE = b" \t\r\n"


def suffix_of(path: Path) -> str:
    """The suffix that tells the form, in lower case: '.jsonl' of 'A.JSONL.gz'."""
    last = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if last in PACKED else last


def open_data(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed as they are read."""
    unpack = _unpacker(path)
    return unpack(path) if unpack else path.open("rb")


def rows_of(path: Path) -> Rows:
    """Every row of a file. Raise DataError, OSError or another error of the libraries that read it."""
    with open_data(path) as f:
        head = f.read(HEAD)
    _refuse(path, head)
    return _form(path, head)(path, head)


def _zstandard(path: Path) -> BinaryIO:
    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


_UNPACKERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open, b"\x28\xb5\x2f\xfd": _zstandard}


def _unpacker(path: Path) -> Callable[[Path], Any] | None:
    with path.open("rb") as f:
        start = f.read(6)
    return next((unpack for magic, unpack in _UNPACKERS.items() if start.startswith(magic)), None)


def _refuse(path: Path, head: bytes) -> None:
    """Raise DataError for a file that is not what its name says."""
    if head.startswith(LFS_POINTER):
        raise DataError(f"{path}: is a Git LFS pointer, not the file itself: run 'git lfs pull' in its repository")
    if head.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: is a zip archive or a spreadsheet: unpack it, or save the sheet as CSV UTF-8")
    if head.lstrip(BOM + SPACE)[:9].lower() in (b"<!doctype", b"<html>"):
        raise DataError(f"{path}: is a web page, not data: download the file itself")


def _is_utf16(head: bytes) -> bool:
    """By its mark, or by a zero beside nearly every letter."""
    even, odd = (half.count(0) / max(len(half), 1) for half in (head[:200:2], head[1:200:2]))
    marked = head.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in head
    return marked or (len(head) > 16 and min(even, odd) < 0.1 and max(even, odd) > 0.8)


def _form(path: Path, head: bytes) -> Callable[[Path, bytes], Rows]:
    suffix, text = suffix_of(path), head.lstrip(BOM + SPACE)
    if head.startswith(b"PAR1") or suffix in PARQUET:
        return lambda path, _: enumerate(parquet_rows(_source(path)), start=1)
    if head.startswith(b"ARROW1") or suffix in ARROW:
        return lambda path, _: enumerate(arrow_rows(_source(path)), start=1)
    if _is_utf16(head):
        raise DataError(f"{path}: looks like UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if text.startswith(b"[") and _is_array(text):
        return _array
    if text.startswith((b"{", b"[")) or suffix in JSON:
        return _lines
    if suffix in TABLES:
        return _table
    raise DataError(f"{path}: cannot read '{suffix}' files that are not JSON; give {', '.join(sorted(SUFFIXES))}, "
                    "compressed or not, or a folder of them")


def _source(path: Path) -> Any:
    """A path, or for a compressed file its bytes: what pyarrow opens."""
    if _unpacker(path) is None:
        return str(path)
    with open_data(path) as f:
        return pa.BufferReader(f.read())


def _table(path: Path, head: bytes) -> Rows:
    with open_data(path) as f:
        yield from table_rows(f, head, path)


def _is_array(text: bytes) -> bool:
    """Whether a file is one JSON array of objects, and not lines that are lists."""
    inner = text[1:].lstrip(SPACE)
    if not inner.startswith(b"{"):
        return False
    first, _, rest = text.partition(b"\n")
    return not (rest.strip() and isinstance(_value(first), list))


def _array(path: Path, _: bytes) -> Rows:
    with open_data(path) as f:
        try:
            rows = parse_json(f.read().decode("utf-8-sig"))
        except ValueError as e:
            raise DataError(f"{path}: begins like a JSON array and is none: {e}; check that the file is whole") from e
    yield from enumerate(rows, start=1)


def _lines(path: Path, head: bytes) -> Rows:
    _refuse_pretty(path, head.lstrip(BOM + SPACE))
    with open_data(path) as f:
        for number, line in enumerate(f, start=1):
            for value in line_values(line):
                yield number, value


def _refuse_pretty(path: Path, text: bytes) -> None:
    """Raise for JSON that is printed over several lines: its lines are no rows."""
    first = text.partition(b"\n")[0].rstrip()
    if not isinstance(_value(first), RowFault):
        return
    decoded = text.decode(errors="ignore")
    try:
        _, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        end = len(decoded) if first == b"{" and len(text) > HEAD // 2 else 0  # a value longer than what was looked at
    if "\n" in decoded[:end]:
        raise (DataError if decoded[end:].strip() else NotRows)(
            f"{path}: looks like one JSON value over several lines, where each line must be a row: write each on a"
            " line of its own (jq -c . FILE), or one list of all rows")


def line_values(line: bytes) -> list[object]:
    """The value of a line of JSON Lines, or the fault in it; more than one where objects stand in one line."""
    text = line.removeprefix(BOM)
    value = _value(text)
    if isinstance(value, RowFault) and text.startswith(b"{"):
        return _objects(text) or [value]
    return [value]


def _value(line: bytes) -> object:
    try:
        return parse_json(line.decode()) if line.strip() else RowFault("blank line")
    except UnicodeDecodeError as e:
        return RowFault(f"not UTF-8: byte {e.start + 1} of the line", line[:400].decode(errors="backslashreplace"))
    except ValueError as e:
        return RowFault(f"not JSON: {e}", line[:400].decode(errors="backslashreplace"))


def _objects(line: bytes) -> list[object]:
    """The objects of a line that holds several, as after joining files without a last line end; [] if it is broken."""
    values = list[object]()
    try:
        text = line.decode().strip()
        while text:
            value, end = DECODER.raw_decode(text)
            values.append(value)
            text = text[end:].lstrip("\ufeff \t\r\n")
    except (ValueError, RecursionError):
        return []
    return values if all(isinstance(v, dict) for v in values) else []
