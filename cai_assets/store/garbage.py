"""Garbage collection: never what a record names, nor recent data, because an unfinished run has no records yet.

A row that holds no answer goes once its key has one.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from cai_assets.store.answers import unanswered
from cai_assets.store.checkpoints import Checkpoints
from cai_assets.store.compaction import alone, finish_removal, remove, rewrite
from cai_assets.store.folders import remove as remove_path
from cai_assets.store.folders import size
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import open_parquet, read_parquet
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import RowStore, list_shards, read_shard
from cai_assets.store.upkeep import DAY, newest, steps, unfinished

TABLE = re.compile(r"tables/[^/]+/[0-9a-f]+\.parquet")


class Garbage(NamedTuple):
    """What nothing names. ``rows``: how many of a shard's; ``bytes``: of those rows an estimate."""

    kind: Literal["rows", "table", "checkpoint", "work", "temporary"]
    path: Path
    bytes: int
    rows: int = 0


def gc(layout: Layout, records: Records, *, apply: bool, grace: float = DAY) -> list[Garbage]:
    """What no record names and is older than ``grace`` seconds; with ``apply``, also remove it.

    Rows are named by any column ``row_key*`` of a table that a record names (``path``, or a path in ``details``): one
    key per cell, or a list of keys where several calls made one row.
    A record that made calls, but whose tables have no such column, does not say which rows it used: every row as
    old as the record, or older, is kept. A table folder that no record names is left alone. Apply it when no
    run is in progress: a run that reuses an unnamed row has no record yet. Raise Busy, or StoreCorrupt if a table that
    a record names cannot be read.
    """
    every = [r for asset in records.assets() for r in records.every(asset)]
    named = {path for r in every for path in r.named_paths()}
    before = time.time() - grace
    dead = [*_dead_rows(layout, every, before, apply),
            *_dead_tables(layout, named, before),
            *_dead_checkpoints(layout, named | {r.digest.partition(":")[2] for r in every}, before)]
    if apply:
        for item in dead:
            _discard(layout, item)
    return [*dead, *_dead_work(layout, before, apply), *_dead_temporary(layout, grace, apply)]


def _named_keys(layout: Layout, every: Sequence[Record]) -> tuple[pl.DataFrame, datetime | None]:
    """Keys that tables name, and the time of the newest record that made calls without naming their rows."""
    keys, silent = [pl.Series("row_key", [], dtype=pl.String)], []
    done: dict[str, bool] = {}
    for record in every:
        for path in record.named_tables() - done.keys():
            named = table_keys(layout.absolute(path))
            keys += named
            done[path] = bool(named)
        if record.generated + record.reused > 0 and not any(done[p] for p in record.named_tables()):
            silent.append(record.created)
    return pl.concat(keys).unique().to_frame(), max(silent, default=None)


def table_keys(path: Path) -> list[pl.Series]:
    """The row keys in each column ``row_key*`` of a table; nothing if the table is gone."""
    if not path.exists():
        return []
    with open_parquet(path) as file:
        columns = [c for c in file.schema_arrow.names if c.startswith("row_key")]
    frame = read_parquet(path, columns) if columns else pl.DataFrame()
    return [_flat(frame[c]).cast(pl.String).drop_nulls().unique().alias("row_key") for c in columns]


def _flat(column: pl.Series) -> pl.Series:
    return column.explode() if isinstance(column.dtype, pl.List) else column


def _dead_rows(layout: Layout, every: Sequence[Record], before: float, apply: bool) -> Iterator[Garbage]:
    named, silent = _named_keys(layout, every)
    young = pl.lit(datetime.fromtimestamp(before, UTC))
    spared = pl.col("created") >= young if silent is None else (
        (pl.col("created") >= young) | (pl.col("created") <= pl.lit(silent.astimezone(UTC))))
    for step in steps(layout):
        with alone(layout, step):
            folder = layout.local("rows", step)
            for shard in finish_removal(layout, folder) if apply else list_shards(folder):
                rows = read_shard(shard, ["row_key", "created", "logprobs"])
                kept = named.filter(~pl.col("row_key").is_in(_answered_since(layout, step, rows)))
                dead = rows.filter(~spared).join(kept, on="row_key", how="anti")
                if dead.height:
                    share = shard.stat().st_size * dead.height // rows.height
                    yield Garbage("rows", shard, share, dead.height)
                    if apply:
                        _drop(layout, shard, dead, whole=dead.height == rows.height)


def _answered_since(layout: Layout, step: str, rows: pl.DataFrame) -> list[str]:
    """Keys of rows that hold no answer, and for which another row does."""
    return list(RowStore(layout).lookup(step, unanswered(rows), payload=False))


def _drop(layout: Layout, shard: Path, dead: pl.DataFrame, *, whole: bool) -> None:
    if not whole:
        rewrite(layout, [shard],
                lambda rows: rows.join(dead, on=["row_key", "created"], how="anti", maintain_order="left"))
    remove(layout, [shard])


def _dead_tables(layout: Layout, named: set[str], before: float) -> Iterator[Garbage]:
    tables = [e for e in layout.storage.list("tables") if TABLE.fullmatch(e.name)]
    for _, folder in groupby(tables, key=lambda e: e.name.rpartition("/")[0]):
        every = list(folder)
        unnamed = [e for e in every if e.name not in named]
        for table in unnamed if len(unnamed) < len(every) else []:
            if table.modified < before:
                yield Garbage("table", layout.path(table.name), table.size)


def _dead_checkpoints(layout: Layout, named: set[str], before: float) -> Iterator[Garbage]:
    for path in Checkpoints(layout).paths():
        name = layout.relative(path)
        if name in named or path.name in named or path.is_symlink():
            continue
        files = layout.storage.list(name)
        if max((f.modified for f in files), default=0.0) < before:
            yield Garbage("checkpoint", path, sum(f.size for f in files))


def _discard(layout: Layout, item: Garbage) -> None:
    if item.kind == "table":
        layout.storage.delete(layout.relative(item.path))
    elif item.kind == "checkpoint":
        layout.storage.remove(layout.relative(item.path))


def _dead_work(layout: Layout, before: float, apply: bool) -> Iterator[Garbage]:
    """Work folders whose lock no one holds. A lock file stays: another process may be waiting on it."""
    for path in sorted(layout.folder("work").glob("*/")):
        lock = f"work/{path.name}.lock"
        with layout.storage.lock(lock, wait=False) if layout.has(lock) else nullcontext(True) as mine:
            if mine and newest(path) < before:
                yield Garbage("work", path, size(path))
                if apply:
                    shutil.rmtree(path)


def _dead_temporary(layout: Layout, grace: float, apply: bool) -> Iterator[Garbage]:
    for path in unfinished(layout, grace):
        yield Garbage("temporary", path, size(path))
        if apply:
            remove_path(path)


def sweep(layout: Layout, grace: float = DAY) -> list[Garbage]:
    """Remove what killed writers left behind more than ``grace`` seconds ago, and nothing else; return it."""
    return list(_dead_temporary(layout, grace, apply=True))
