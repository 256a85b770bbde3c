"""The row store: every finished model call, kept for ever, looked up by row key.

Append-only Parquet shards, one folder a step, each written to a temporary name, synced and renamed. So a
reader never sees half a shard, writers need no lock, and a crash loses at most the shard being filled.
Failures are never stored. If two writers stored the same key, the earliest shard speaks. Pages carry
checksums: a flipped bit is an error that names the file, never a silently different text.
"""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.lineage.layout import Layout, write_atomic

SCHEMA: dict[str, pl.DataType] = {
    "row_key": pl.String(),
    "payload": pl.String(),
    "text": pl.String(),
    "finish": pl.String(),
    "logprobs": pl.List(pl.Float64()),
    "prompt_tokens": pl.Int32(),
    "completion_tokens": pl.Int32(),
    "created": pl.Datetime("us", "UTC"),
}
SHARD_ROWS = 512
SHARD_SECONDS = 20.0


class StoreCorrupt(RuntimeError):
    """A shard cannot be read back as it was written."""


class StoredRow(NamedTuple):
    """One finished call. ``payload``: canonical JSON of what decided it (lineage.keys.row_payload)."""

    row_key: str
    payload: str
    text: str
    finish: str
    logprobs: list[float]
    prompt_tokens: int
    completion_tokens: int


class RowStore:
    """All rows under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def shards(self, step: str) -> list[Path]:
        """The step's shards, oldest first."""
        return sorted(self._layout.folder("rows", step).glob("[0-9]*.parquet"))

    def keys(self, step: str) -> pl.DataFrame:
        """Columns ``row_key`` and ``shard`` (index into ``shards``), each key once: its earliest place."""
        parts = [read_parquet(p, ["row_key"]).with_columns(shard=pl.lit(i, pl.Int32))
                 for i, p in enumerate(self.shards(step))]
        empty = pl.DataFrame(schema={"row_key": pl.String, "shard": pl.Int32})
        return pl.concat([empty, *parts]).unique("row_key", keep="first", maintain_order=True)

    def lookup(self, step: str, keys: Iterable[str]) -> dict[str, StoredRow]:
        """The stored rows among ``keys``. One semi-join; only shards that hold a hit are read whole."""
        wanted = pl.DataFrame({"row_key": pl.Series(list(keys), dtype=pl.String)}).unique()
        hits = self.keys(step).join(wanted, on="row_key", how="semi")
        shards = self.shards(step)
        found: dict[str, StoredRow] = {}
        for (index,), part in hits.group_by("shard", maintain_order=True):
            columns = list(StoredRow._fields)
            rows = read_parquet(shards[int(str(index))], columns).join(part, on="row_key", how="semi").unique("row_key")
            found.update((r[0], StoredRow(*r)) for r in rows.select(columns).iter_rows())
        return found

    @contextmanager
    def writer(self, step: str) -> Iterator[Writer]:
        """Append rows as they finish; whatever was added is on disk when the block ends, also by an error."""
        writer = Writer(self._layout.folder("rows", step))
        try:
            yield writer
        finally:
            writer.flush()


class Writer:
    """Fills shards for one step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[StoredRow] = []
        self._since = time.monotonic()

    def add(self, row: StoredRow) -> None:
        self._rows.append(row)
        if len(self._rows) >= SHARD_ROWS or time.monotonic() - self._since > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as one shard."""
        if self._rows:
            # Time first, so that names sort by age; the random part keeps writers apart.
            path = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
            write_atomic(path, _encode(self._rows))
        self._rows = []
        self._since = time.monotonic()


def _encode(rows: Sequence[StoredRow]) -> bytes:
    frame = pl.DataFrame(rows, schema={k: v for k, v in SCHEMA.items() if k != "created"}, orient="row")
    frame = frame.with_columns(created=pl.lit(time.time_ns() // 1000).cast(SCHEMA["created"]))
    return parquet_bytes(frame)


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Parquet with page checksums, which polars' own writer does not offer."""
    buffer = io.BytesIO()
    pq.write_table(frame.to_arrow(), buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    try:
        frame = pl.from_arrow(pq.read_table(path, columns=columns, page_checksum_verification=True))
    except (OSError, pa.ArrowException) as e:
        raise StoreCorrupt(f"{path} cannot be read back ({e}); move it away and run again: "
                           "its rows are generated anew, every other row is reused") from e
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - from_arrow of a table is a frame
    return frame


