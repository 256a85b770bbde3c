"""Compaction of the row store: small shards become large ones. A look-up answers as before, meanwhile and after.

It writes a large shard under a new name that sorts at the age of its oldest input, publishes it by rename, and removes
the inputs last. The new shard names its inputs: a crash in between leaves equal rows twice, and the next compaction
finishes the removal.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from cai_assets.errors import CaiError
from cai_assets.store.answers import unanswered
from cai_assets.store.files import sync_file
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import as_frame, open_parquet
from cai_assets.store.row_store import ARROW, WITH_THOUGHTS, has_thoughts, list_shards, read_shard, shard_name
from cai_assets.store.upkeep import steps

LARGE_ROWS = 100_000
GROUP_ROWS = 8192  # a look-up reads a whole row group for one hit in it
SETTLED = 60.0  # seconds after which no writer is still publishing a shard of that age
INPUTS = b"cai.inputs"


class Compaction(NamedTuple):
    """Shards before and after, and rows dropped as later duplicates."""

    before: int
    after: int
    dropped: int


class Busy(CaiError):
    """Another compaction or collection is at work on that step."""


def compact(layout: Layout, step: str, *, target: int = LARGE_ROWS, settled: float = SETTLED) -> Compaction:
    """Merge neighboring shards of fewer than ``target`` rows into shards of about that size.

    Shards younger than ``settled`` seconds wait for the next time: one still being published could belong between
    them. Needs as much free space as the shards it merges take. Raise Busy if another one runs, OSError without space,
    StoreCorrupt for a shard that cannot be read; then nothing is removed.
    """
    if step not in steps(layout):
        raise LookupError(f"no step {step!r} in the row store; there are: {', '.join(steps(layout)) or 'none yet'}")
    with alone(layout, step):
        folder = layout.local("rows", step)
        shards = finish_removal(layout, folder)
        settled_until = time.time_ns() - int(settled * 1e9)
        groups = _groups([s for s in shards if _age(s) < settled_until], target)
        _check_space(folder, sum(s.stat().st_size for g in groups for s in g))
        dropped = sum(_merge(layout, group) for group in groups)
        remove(layout, [s for g in groups for s in g])
    return Compaction(len(shards), len(shards) - sum(map(len, groups)) + len(groups), dropped)


def _groups(shards: Sequence[Path], target: int) -> list[list[Path]]:
    """Runs of neighbors to merge. A large shard ends a run: joining across it would change which row is earliest."""
    groups: list[list[Path]] = [[]]
    size = 0
    for shard in shards:
        rows = _footer(shard)[0]
        if size >= target or rows >= target:
            groups.append([])
            size = 0
        if rows < target:
            groups[-1].append(shard)
            size += rows
    return [g for g in groups if len(g) > 1]


def _merge(layout: Layout, shards: Sequence[Path]) -> int:
    """Publish the rows of ``shards``, each key's answer once, as one shard; return how many rows were dropped."""
    seen: set[str] = set()
    dropped = 0

    def first(rows: pl.DataFrame) -> pl.DataFrame:
        nonlocal dropped
        none = unanswered(rows)  # must not stand for the answer that follows it
        new = [key in none or (key not in seen and not seen.add(key))  # type: ignore[func-returns-value]
               for key in rows["row_key"]]
        dropped += len(new) - sum(new)
        return rows.filter(pl.Series(new, dtype=pl.Boolean))

    rewrite(layout, shards, first)
    return dropped


def rewrite(layout: Layout, shards: Sequence[Path], keep: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Publish what ``keep`` leaves of ``shards`` as one shard as old as the first. Memory: one input shard."""
    path = shards[0].with_name(shard_name(_age(shards[0])))
    columns = WITH_THOUGHTS if any(map(has_thoughts, shards)) else ARROW
    schema = columns.with_metadata({INPUTS: json.dumps([s.name for s in shards]).encode()})
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            waiting = as_frame(columns.empty_table())
            for shard in shards:
                waiting = pl.concat([waiting, keep(read_shard(shard, columns.names))])
                whole = len(waiting) if shard is shards[-1] else len(waiting) // GROUP_ROWS * GROUP_ROWS
                if whole:
                    writer.write_table(waiting[:whole].to_arrow().cast(schema), row_group_size=GROUP_ROWS)
                waiting = waiting[whole:]
        sync_file(temporary)
        layout.storage.take(temporary, layout.relative(path))
    finally:
        temporary.unlink(missing_ok=True)


def finish_removal(layout: Layout, folder: Path) -> list[Path]:
    """Remove inputs that a crash left beside the shard made of them; return the shards that remain."""
    shards = list_shards(folder)
    merged = {folder / name for s in shards for name in _footer(s)[1]}
    remove(layout, [s for s in shards if s in merged])
    return [s for s in shards if s not in merged]


def remove(layout: Layout, shards: Iterable[Path]) -> None:
    layout.storage.delete(*map(layout.relative, shards))


def _footer(shard: Path) -> tuple[int, list[str]]:
    """Number of rows, and the names of the shards it was made of."""
    with open_parquet(shard) as file:
        inputs = (file.metadata.metadata or {}).get(INPUTS, b"[]")
        return file.metadata.num_rows, json.loads(inputs)


def _age(shard: Path) -> int:
    return int(shard.name.partition("-")[0])


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed * 1.1:
        raise OSError(f"compaction needs {needed * 1.1 / 1e9:.1f} GB free beside {folder}; there are {free / 1e9:.1f}")


@contextmanager
def alone(layout: Layout, step: str) -> Iterator[None]:
    """Hold the step's upkeep lock, which is free again if the process dies."""
    folder = layout.folder("rows", step)
    with layout.storage.lock(f"{layout.relative(folder)}/.upkeep.lock", wait=False) as mine:
        if not mine:
            raise Busy(f"another compaction or collection is at work in {folder}; wait for it")
        yield
