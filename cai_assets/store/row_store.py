"""The row store: every finished model call, kept forever, looked up by row key.

Append-only Parquet shards, one folder per step, each written to a temporary name, synced and renamed. So a
reader never sees half a shard, writers need no lock, and a crash loses at most the shard being filled.
Failures are never stored, and a row that holds no answer (``answers.py``) is never served: it is asked again. If two
writers stored the same key, the earliest answer wins. Pages carry checksums: a flipped bit is an error that names the
file, never a silently different text.

A look-up streams the key column and then reads the row groups that hold hits: its memory grows with the keys
requested and found, not with the store. Compaction may replace shards meanwhile; a reader then starts over.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from cai_assets.store.answers import unanswered
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import FileGone, StoreCorrupt, as_frame, open_parquet, parquet_bytes, read_table
from cai_assets.store.sorted_keys import Run, find, run_of, with_run
from cai_assets.store.storage import Storage

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
THOUGHTS: dict[str, pl.DataType] = {"thought": pl.String(), "thought_state": pl.String()}
"""Columns of a shard in which any row has a state: of models whose thoughts are kept. Elsewhere both are empty."""
ARROW: pa.Schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
WITH_THOUGHTS: pa.Schema = pl.DataFrame(schema={**SCHEMA, **THOUGHTS}).to_arrow().schema
PLACE = {"row_key": pl.String(), "shard": pl.Int32(), "position": pl.UInt32()}
DIGITS = 16  # of the hexadecimal ones that end a row key
SHARD_ROWS = 512
SHARD_SECONDS = 20.0
KEPT_KEYS = 1_000_000  # of a step, whose index stays in memory between look-ups: 16 MB
KEYS_AT_ONCE = 2_000_000  # a join costs as much as its larger side, so keys are gathered before they are joined

T = TypeVar("T")


class StoredRow(NamedTuple):
    """One finished call. ``payload``: canonical JSON of what decided it (engines.keys.row_payload)."""

    row_key: str
    payload: str
    text: str
    finish: str
    logprobs: list[float]
    prompt_tokens: int
    completion_tokens: int
    thought: str = ""
    thought_state: str = ""


class RowStore:
    """All rows under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._indexes: dict[str, Index] = {}

    def shards(self, step: str) -> list[Path]:
        """The step's shards, oldest first."""
        return list_shards(self._layout.local("rows", step))

    def keys(self, step: str) -> pl.DataFrame:
        """Columns ``row_key`` and ``shard`` (index into ``shards``), each key once: its earliest place."""
        return self.read(step, lambda shards: _first(_places(shards, None))).select("row_key", "shard")

    def known(self, step: str, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are stored. Reads no column but the key."""
        wanted = _wanted(keys)
        return set(self.read(step, lambda shards: _places(shards, wanted))["row_key"])

    def lookup(
        self, step: str, keys: Iterable[str], *, payload: bool = True, thoughts: bool = False
    ) -> dict[str, StoredRow]:
        """The stored answers among ``keys``. Without ``payload`` that field is empty: it is most of the reading; so are
        the thoughts unless they are asked for."""
        if (wanted := _wanted(keys)).is_empty():
            return {}
        columns = _columns(payload=payload, thoughts=thoughts)
        return self.read(step, lambda shards: _answers(shards, _places(shards, wanted), columns))

    def tokens(self, step: str, keys: pl.DataFrame) -> pl.DataFrame:
        """Those of ``keys`` (a frame with ``row_key``) that are stored, with their ``completion_tokens``.

        A key that is stored twice comes twice, the earliest first.
        """
        return self.read(step, lambda shards: _tokens(shards, keys))

    def index(self, step: str) -> Index:
        """Where the step's rows are now, for whoever looks up again and again. A small one is kept for the next."""
        index = copy(self._indexes[step]) if step in self._indexes else Index(self, step)
        index.update()
        if index.rows <= KEPT_KEYS:
            self._indexes[step] = copy(index)  # which nobody updates
        return index

    @contextmanager
    def writer(self, step: str) -> Iterator[Writer]:
        """Append rows as they finish; whatever was added is on disk when the block ends, also by an error."""
        writer = Writer(self._layout.storage, self._layout.relative(self._layout.folder("rows", step)))
        try:
            yield writer
        finally:
            writer.flush()

    def read(self, step: str, work: Callable[[list[Path]], T]) -> T:
        """Do ``work`` on a listing of the shards; on a new one when compaction replaced a shard meanwhile."""
        while True:
            try:
                return work(self.shards(step))
            except FileGone as e:
                if e.path in self.shards(step):
                    raise  # a broken link: listed, and never there


class Index:
    """Where the rows of a step are, so that the keys are read once for many look-ups (``sorted_keys.py``)."""

    def __init__(self, store: RowStore, step: str) -> None:
        self._store, self._step = store, step
        self._shards: list[Path] = []
        self._runs: tuple[Run, ...] = ()

    @property
    def rows(self) -> int:
        """How many there are, each as often as it is stored."""
        return sum(len(run.digits) for run in self._runs)

    def update(self) -> None:
        """Take in what was stored since."""
        self._store.read(self._step, self._update)

    def lookup(self, keys: Iterable[str], *, thoughts: bool = False) -> dict[str, StoredRow]:
        """The stored answers among ``keys``, without their payloads. What cannot be there costs no reading."""
        wanted = [*dict.fromkeys(keys)]
        digits = np.array([int(key[-DIGITS:], 16) for key in wanted], dtype=np.uint64)
        found = [(wanted[i], *place) for i, *place in find(self._runs, digits)]  # perhaps: others may have these digits
        if not found:
            return {}
        places = pl.DataFrame(found, schema=PLACE, orient="row").sort("shard", "position")
        columns = _columns(payload=False, thoughts=thoughts)
        try:
            return _answers(self._shards, places, columns)
        except FileGone:  # compaction
            return self._store.lookup(self._step, places["row_key"], payload=False, thoughts=thoughts)

    def _update(self, shards: list[Path]) -> None:
        known, runs = len(self._shards), self._runs
        if self._shards != shards[:known]:  # compaction replaced some, or another writer's is older than ours
            known, runs = 0, ()
        for tables in _gathered(shards[known:], ["row_key"]):
            keys = as_frame(pa.concat_tables(tables.values()))["row_key"]
            digits = keys.str.slice(-DIGITS).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
            places = np.concatenate([np.column_stack((np.full(table.num_rows, known + n), np.arange(table.num_rows)))
                                     for n, table in tables.items()]).astype(np.uint32)
            runs = with_run(runs, run_of(digits, places))
        self._shards, self._runs = shards, runs


class Writer:
    """Fills shards for one step."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder
        self._rows: list[StoredRow] = []
        self._since = time.monotonic()

    def add(self, row: StoredRow) -> None:
        self._rows.append(row)
        if len(self._rows) >= SHARD_ROWS or time.monotonic() - self._since > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as one shard."""
        if self._rows:
            self._storage.put(f"{self._folder}/{shard_name(time.time_ns())}", _encode(self._rows))
        self._rows = []
        self._since = time.monotonic()


def shard_name(age: int) -> str:
    """A new shard name. Time (ns) first, so that names sort by age; the random part keeps writers apart."""
    return f"{age:020d}-{uuid.uuid4().hex[:8]}.parquet"


def list_shards(folder: Path) -> list[Path]:
    """Shards, oldest first.

    Listing a folder is not atomic: while compaction replaces shards, one pass may miss the old ones and the new one.
    A second pass that still has all of the first misses none.
    """
    before = set(folder.glob("[0-9]*.parquet"))
    while not before <= (now := set(folder.glob("[0-9]*.parquet"))):
        before = now
    return sorted(now)


def _columns(*, payload: bool, thoughts: bool) -> list[str]:
    unread = ({"payload"} if not payload else set()) | (set() if thoughts else THOUGHTS.keys())
    return [c for c in StoredRow._fields if c not in unread]


def _wanted(keys: Iterable[str]) -> pl.DataFrame:
    return pl.DataFrame({"row_key": pl.Series(list(keys), dtype=pl.String)}).unique()


def _gathered(shards: Sequence[Path], columns: list[str]) -> Iterator[dict[int, pa.Table]]:
    """Columns of every shard, oldest first, by its number; KEYS_AT_ONCE rows or a little more at a time."""
    gathered, rows = dict[int, pa.Table](), 0
    for number, shard in enumerate(shards):
        gathered[number] = _shard_table(shard, columns)
        rows += gathered[number].num_rows
        if rows >= KEYS_AT_ONCE or number == len(shards) - 1:
            yield gathered
            gathered, rows = {}, 0


def _places(shards: Sequence[Path], wanted: pl.DataFrame | None) -> pl.DataFrame:
    """Every place (as PLACE) of all keys, or of the wanted, earliest first. One semi-join for KEYS_AT_ONCE keys."""
    frames = [pl.DataFrame(schema=PLACE)]
    for tables in _gathered(shards, ["row_key"]):
        places = pl.DataFrame({"shard": list(tables), "rows": [t.num_rows for t in tables.values()]}).select(
            pl.col("shard").cast(pl.Int32), position=pl.int_ranges("rows", dtype=pl.UInt32)).explode("position")
        part = as_frame(pa.concat_tables(tables.values())).hstack(places)
        frames.append(part if wanted is None else part.join(wanted, on="row_key", how="semi", maintain_order="left"))
    return pl.concat(frames)


def _first(places: pl.DataFrame) -> pl.DataFrame:
    return places.unique("row_key", keep="first", maintain_order=True)


def _tokens(shards: Sequence[Path], wanted: pl.DataFrame) -> pl.DataFrame:
    frames = [pl.DataFrame(schema={**wanted.schema, "completion_tokens": SCHEMA["completion_tokens"]})]
    for tables in _gathered(shards, ["row_key", "completion_tokens"]):
        part = as_frame(pa.concat_tables(tables.values()))
        frames.append(part.join(wanted, on="row_key", maintain_order="left").select(frames[0].columns))
    return pl.concat(frames)


def _answers(shards: Sequence[Path], places: pl.DataFrame, columns: list[str]) -> dict[str, StoredRow]:
    """The earliest answer at each key. Later places are read only of keys whose earlier rows hold none."""
    stored: dict[str, StoredRow] = {}
    while places.height:
        earliest, bad = _first(places), set[str]()
        for (number,), part in earliest.group_by("shard", maintain_order=True):
            rows = read_shard(shards[int(str(number))], columns, part["position"])
            rows = rows.with_columns(pl.lit("").alias(c) for c in StoredRow._fields if c not in columns)
            bad |= unanswered(rows).keys()
            stored.update((r[0], StoredRow(*r)) for r in rows.select(StoredRow._fields).iter_rows() if r[0] not in bad)
        places = places.filter(pl.col("row_key").is_in(bad)).join(earliest, on=places.columns, how="anti",
                                                                  maintain_order="left")
    return stored


def _encode(rows: Sequence[StoredRow]) -> bytes:
    schema = {**{k: v for k, v in SCHEMA.items() if k != "created"}, **THOUGHTS}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame = frame.with_columns(created=pl.lit(time.time_ns() // 1000).cast(SCHEMA["created"]))
    kept = any(row.thought_state for row in rows)
    return parquet_bytes(frame.select([*SCHEMA, *(THOUGHTS if kept else ())]))


def has_thoughts(shard: Path) -> bool:
    """Whether a shard has the columns of thoughts."""
    with open_parquet(shard) as file:
        return set(THOUGHTS) <= set(file.schema_arrow.names)


def read_shard(path: Path, columns: list[str], rows: pl.Series | None = None) -> pl.DataFrame:
    """Rows of a shard; with ``rows`` (sorted positions) only those, and only their row groups are read."""
    return as_frame(_shard_table(path, columns, rows))


def _shard_table(path: Path, columns: list[str], rows: pl.Series | None = None) -> pa.Table:
    # A Parquet footer has no checksum, so what damage there could change is checked separately.
    absent = [] if THOUGHTS.keys().isdisjoint(columns) or has_thoughts(path) else [c for c in columns if c in THOUGHTS]
    table = read_table(path, [c for c in columns if c not in absent], rows)
    for column in absent:
        field = WITH_THOUGHTS.field(column)
        table = table.append_column(field, pa.array([""] * table.num_rows, type=field.type))
    for column in columns:
        if table.field(column).type != WITH_THOUGHTS.field(column).type or table[column].null_count:
            raise StoreCorrupt(f"{path}: column {column!r} has another type than it was written with, or missing "
                               "values; move the file away and rerun")
    return table
