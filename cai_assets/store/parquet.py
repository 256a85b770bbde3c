"""Parquet with page checksums: a flipped bit is an error that names the file, never a silently different value.

pyarrow reads and writes, because polars' own writer offers no page checksums.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.errors import CaiError
from cai_assets.store.files import writing

GROUP_ROWS = 65_536  # whoever reads a few rows decodes their whole row groups
PART_ROWS = 8192  # of a table that is read a part at a time


class StoreCorrupt(CaiError):
    """A file cannot be read back as it was written."""


class FileGone(StoreCorrupt):
    """A file does not exist, or no longer does."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is gone; rerun: rows that were only in it are regenerated")
        self.path = path


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Parquet with page checksums, which polars' own writer does not offer."""
    buffer = io.BytesIO()
    pq.write_table(frame.to_arrow(), buffer, compression="zstd", write_page_checksum=True, row_group_size=GROUP_ROWS)
    return buffer.getvalue()


def write_parquet(path: Path, frames: Iterable[pl.DataFrame]) -> None:
    """Like ``parquet_bytes``, frame by frame into a file that no one reads yet. At least one frame is required."""
    parts = (frame.to_arrow() for frame in frames)
    first = next(parts)
    with writing(path), pq.ParquetWriter(path, first.schema, compression="zstd", write_page_checksum=True) as writer:
        for part in itertools.chain([first], parts):
            writer.write_table(part.cast(first.schema), row_group_size=GROUP_ROWS)


class PartsWriter:
    """Writes a file that no one reads yet, a part at a time; its bytes are those of ``parquet_bytes`` of all rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[pl.DataFrame] = []
        self._file: pq.ParquetWriter | None = None

    def add(self, part: pl.DataFrame) -> None:
        """At least one part is required, which may be empty."""
        self._waiting.append(part)
        if sum(p.height for p in self._waiting) >= GROUP_ROWS:
            rows = pl.concat(self._waiting, rechunk=True)
            ready = rows.height - rows.height % GROUP_ROWS
            self._write(rows[:ready])
            self._waiting = [rows[ready:]]

    def close(self) -> None:
        """Write what is left."""
        rows = pl.concat(self._waiting, rechunk=True)
        if rows.height or self._file is None:
            self._write(rows)
        if self._file:
            self._file.close()

    def _write(self, rows: pl.DataFrame) -> None:
        table = rows.to_arrow()
        with writing(self._path):
            self._file = self._file or pq.ParquetWriter(self._path, table.schema, compression="zstd",
                                                        write_page_checksum=True)
            self._file.write_table(table, row_group_size=GROUP_ROWS)


def there(path: Path) -> bool:
    """Whether there is a file."""
    return path.is_file()


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, open. What cannot be read becomes StoreCorrupt; a file that is not there, FileGone."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            if sum(groups) != file.metadata.num_rows:
                raise pa.ArrowInvalid(f"row groups of {groups} rows make {file.metadata.num_rows}")
            yield file
    except FileNotFoundError:
        raise FileGone(path) from None
    except (OSError, UnicodeDecodeError, pa.ArrowException) as e:  # the name of a column may be what is damaged
        raise StoreCorrupt(f"{path} cannot be read back ({e}); move it away and rerun: "
                           "its rows are regenerated, and every other row is reused") from e


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """A whole Parquet file, or some of its columns. Raise StoreCorrupt if it is not as it was written."""
    return as_frame(read_table(path, columns))


def read_parts(path: Path, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
    """As ``read_parquet``, PART_ROWS rows at a time; one empty frame if there are none."""
    names, rows = None if columns is None else [*columns], 0
    with open_parquet(path) as file:
        for batch in file.iter_batches(PART_ROWS, columns=names):
            rows += batch.num_rows
            yield as_frame(_checked(pa.Table.from_batches([batch]), names, batch.num_rows))
        if not rows:
            yield as_frame(_checked(file.read(columns=names), names, file.metadata.num_rows))
        elif rows != file.metadata.num_rows:
            raise pa.ArrowInvalid(f"{rows} rows found; {file.metadata.num_rows} expected")


def read_table(path: Path, columns: list[str] | None, rows: pl.Series | None = None) -> pa.Table:
    """As ``read_parquet``, for pyarrow; with ``rows`` (sorted positions) only those, and only their row groups."""
    with open_parquet(path) as file:
        if rows is None:
            return _checked(file.read(columns=columns), columns, file.metadata.num_rows)
        parts, start = [], 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = rows.filter((rows >= start) & (rows < end)) - start
            if len(inside):
                table = _checked(file.read_row_group(group, columns=columns), columns, end - start)
                parts.append(table if len(inside) == end - start else table.take(inside.to_arrow()))
            start = end
        return pa.concat_tables(parts) if parts else file.read_row_groups([], columns=columns)


def _checked(table: pa.Table, columns: list[str] | None, rows: int) -> pa.Table:
    if table.num_rows != rows or (columns is not None and set(columns) != set(table.column_names)):
        raise pa.ArrowInvalid(f"{table.num_rows} rows of {table.column_names} found; {rows} of {columns} expected")
    return table


def as_frame(table: pa.Table) -> pl.DataFrame:
    """The table for polars, without a copy where their formats agree."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - from_arrow of a table is a frame
    return frame
