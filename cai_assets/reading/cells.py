"""Rows of CSV and TSV files.

Guarantee: no cell is dropped, cut or moved to another column: a row with too few or too many cells, or with a quote
that is never closed, is a fault.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cai_assets.reading.faults import DataError, RowFault

MAX_CELL = 1_000_000


def table_rows(file: BinaryIO, head: bytes, path: Path) -> Iterator[tuple[int, object]]:
    """Each row after the header, with the line it ends on. Raise DataError for a header that names a column twice."""
    first = head.partition(b"\n")[0].decode(errors="replace")
    # spreadsheets in many locales separate cells by semicolons
    delimiter = max(",;\t", key=first.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check(header, path)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as e:
                yield reader.line_num, RowFault(f"not CSV: {_said(e)}")
                continue
            if cells:
                yield reader.line_num, _row(header, cells, delimiter)
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: not UTF-8 (byte {e.start}); save it as UTF-8, in a spreadsheet 'CSV UTF-8'") from e


def _said(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quote is opened and never closed, so that all rows after it are one cell"
    return f"{error}; a quote inside a cell is written twice"


def _check(header: Sequence[str], path: Path) -> None:
    twice = next((name for i, name in enumerate(header) if name and name in header[:i]), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called '{twice}': rename one")


def _row(header: Sequence[str], cells: list[str], delimiter: str) -> object:
    cells[0] = cells[0].removeprefix("\ufeff")  # where files were joined
    if len(header) == 1 < len(cells):
        cells = [delimiter.join(cells)]
    more = [cell for cell in cells[len(header):] if cell.strip()]
    if [cell.strip() for cell in cells] == list(header):
        return RowFault("repeats the header")
    if more:
        return RowFault(f"more cells than columns ({len(cells)} and {len(header)}): put a cell that holds "
                        f"{delimiter!r} in quotes", delimiter.join(cells)[:400])
    if len(cells) < len(header):
        return RowFault(f"fewer cells than columns: {', '.join(header[len(cells):])} missing")
    longest = max(range(len(header)), key=lambda i: len(cells[i]))
    if len(cells[longest]) > MAX_CELL:
        return RowFault(f"too long: {len(cells[longest]):,} characters in column '{header[longest]}', the limit is "
                        f"{MAX_CELL:,}")
    return dict(zip(header, cells, strict=False))
