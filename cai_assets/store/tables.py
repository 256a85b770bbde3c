"""Tables, read and written a part at a time: no more of them is in memory than what is asked for.

A table's name is the digest of its content, whatever the parts in which it was written. ``Parts`` are its rows in their
order: frames of some rows each, at least one, which may be empty.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from cai_assets.store.canonical import digest_lines
from cai_assets.store.parquet import PartsWriter, open_parquet, read_parquet, read_parts

Parts = Iterable[pl.DataFrame]
SLICE = 50_000  # rows that are text at once


class Table:
    """A table in a file, and its digest if that is known. Every reading may raise StoreCorrupt."""

    def __init__(self, path: Path, digest: str = "") -> None:
        self.path, self._digest = path, digest

    @property
    def digest(self) -> str:
        self._digest = self._digest or digest_of(self.parts)
        return self._digest

    @property
    def columns(self) -> list[str]:
        with open_parquet(self.path) as file:
            return list(file.schema_arrow.names)

    @property
    def height(self) -> int:
        with open_parquet(self.path) as file:
            return int(file.metadata.num_rows)

    def parts(self, *columns: str, where: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """Its rows, or those of them that pass a test: all columns, or some."""
        if where is None:
            yield from read_parts(self.path, columns or None)
        else:
            read = [*dict.fromkeys([*columns, *where.meta.root_names()])] if columns else None
            for part in read_parts(self.path, read):
                passed = part.filter(where)
                yield passed.select(columns) if columns else passed

    def read(self, *columns: str, where: pl.Expr | None = None) -> pl.DataFrame:
        """As ``parts``, all at once."""
        if where is None:
            return read_parquet(self.path, [*columns] or None)
        return pl.concat(self.parts(*columns, where=where), rechunk=True)

    def count(self, where: pl.Expr) -> int:
        """How many rows pass a test."""
        return sum(part.filter(where).height for part in self.parts(*where.meta.root_names()))

    def head(self, rows: int, *columns: str, where: pl.Expr | None = None) -> pl.DataFrame:
        """The first rows."""
        found: list[pl.DataFrame] = []
        for part in self.parts(*columns, where=where):
            found.append(part)
            if sum(p.height for p in found) >= rows:
                break
        return pl.concat(found).head(rows)

    def in_order(self, *columns: str) -> Iterator[pl.DataFrame]:
        """As ``parts``, with ``prompt_id``, in the order of it: one part where the table is in another."""
        names = dict.fromkeys([*columns, "prompt_id"]) if columns else ()
        return self.parts(*names) if self._sorted else iter([self.read(*names).sort("prompt_id", maintain_order=True)])

    @cached_property
    def _sorted(self) -> bool:
        last = ""
        for part in self.parts("prompt_id"):
            ids = part["prompt_id"]
            if len(ids) and (ids[0] < last or not ids.is_sorted()):
                return False
            last = ids[-1] if len(ids) else last
        return True


class Held(Table):
    """A table that is in memory."""

    def __init__(self, frame: pl.DataFrame) -> None:
        super().__init__(Path())
        self._frame = frame

    @property
    def columns(self) -> list[str]:
        return self._frame.columns

    @property
    def height(self) -> int:
        return self._frame.height

    def parts(self, *columns: str, where: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        yield self.read(*columns, where=where)

    def read(self, *columns: str, where: pl.Expr | None = None) -> pl.DataFrame:
        frame = self._frame if where is None else self._frame.filter(where)
        return frame.select(columns) if columns else frame


def table_digest(frame: pl.DataFrame) -> str:
    """Digest of a table's schema and rows in their order: equal content, equal digest."""
    return digest_of(lambda: frame.iter_slices(SLICE) if frame.height else iter([frame]))


def digest_of(parts: Callable[[], Iterator[pl.DataFrame]]) -> str:
    """``table_digest`` of all parts together."""
    schema = [f"{name}={dtype}" for name, dtype in next(parts()).schema.items()]
    return digest_lines("t1", schema, lambda: (part.write_ndjson() for part in parts()))


def write_tables(folders: Sequence[Path], rows: Iterable[tuple[pl.DataFrame, ...]]) -> list[Table]:
    """Tables of which each of ``rows`` has a part, in new files of these folders that no one looks for."""
    paths = [folder / f".table.{uuid.uuid4().hex}.tmp" for folder in folders]
    writers = [PartsWriter(path) for path in paths]
    try:
        for parts in rows:
            for writer, part in zip(writers, parts, strict=True):
                writer.add(part)
        for writer in writers:
            writer.close()
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return [Table(path) for path in paths]


class Scratch:
    """Tables that nobody keeps: they go with this object."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="cai-tables-")

    def keep(self, parts: Parts) -> Table:
        """A table that comes in parts."""
        (made,) = self.keep_all(1, ((part,) for part in parts))
        return made

    def keep_all(self, number: int, rows: Iterable[tuple[pl.DataFrame, ...]]) -> list[Table]:
        """So many tables that are made together."""
        return write_tables([Path(self._folder.name)] * number, rows)


def aligned(first: Parts, second: Parts) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Two tables in the order of ``prompt_id``, side by side: each part of the first, which has a prompt once, and the
    rows of the second as far as its last prompt."""
    rest = iter(second)
    waiting = next(rest)
    for part in first:
        if not part.height:
            yield part, waiting.clear()
            continue
        last, more = part["prompt_id"][-1], [waiting]
        while not (more[-1].height and more[-1]["prompt_id"][-1] > last) and (new := next(rest, None)) is not None:
            more.append(new)
        waiting = pl.concat(more)
        reached = waiting["prompt_id"] <= last
        yield part, waiting.filter(reached)
        waiting = waiting.filter(~reached)
