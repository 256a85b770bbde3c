"""Upkeep of a data root: count, verify, compact, collect garbage. None of it changes what a look-up answers.

Compaction writes a large shard under a new name that sorts at the age of its oldest input, publishes it by rename,
and removes the inputs last. The new shard names its inputs: a crash in between leaves equal rows twice, and the
next compaction finishes the removal. Garbage collection never removes what a record names, nor what is young:
a run that is not finished has no records yet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import polars as pl
import pyarrow.parquet as pq

from cai_assets.lineage.layout import Layout, sync_folder
from cai_assets.lineage.records import Record, Records
from cai_assets.lineage.store import (
    ARROW,
    SCHEMA,
    FileGone,
    StoreCorrupt,
    list_shards,
    open_parquet,
    read_parquet,
    read_shard,
    shard_path,
)

DAY = 86400.0
LARGE_ROWS = 100_000
GROUP_ROWS = 8192  # a look-up reads a whole row group for one hit in it
SETTLED = 60.0  # seconds after which no writer is still publishing a shard of that age
INPUTS = b"cai.inputs"
CREATED = list(SCHEMA).index("created")


class StepStats(NamedTuple):
    """``bytes`` on disk; ``oldest``, ``newest``: when rows were made, None without rows."""

    step: str
    rows: int
    shards: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None


class Compaction(NamedTuple):
    """Shards before and after, and rows dropped as later duplicates."""

    before: int
    after: int
    dropped: int


class Garbage(NamedTuple):
    """What nothing names. ``rows``: how many of a shard's; ``bytes``: of those rows an estimate."""

    kind: Literal["rows", "table", "checkpoint", "work", "temporary"]
    path: Path
    bytes: int
    rows: int = 0


class Busy(RuntimeError):
    """Another compaction or collection is at work on that step."""


def steps(layout: Layout) -> list[str]:
    """Steps that have a folder in the row store."""
    return sorted(p.name for p in layout.folder("rows").iterdir() if p.is_dir())


def stats(layout: Layout) -> list[StepStats]:
    """Counts of each step, read from the shards' footers alone. Raise StoreCorrupt for one that cannot be read."""
    return [_step_stats(step, list_shards(layout.folder("rows", step))) for step in steps(layout)]


def _step_stats(step: str, shards: Sequence[Path]) -> StepStats:
    rows, times = 0, []
    for shard in shards:
        with open_parquet(shard) as file:
            rows += file.metadata.num_rows
            made = [file.metadata.row_group(i).column(CREATED).statistics for i in range(file.num_row_groups)]
            times += [t for m in made for t in (m.min, m.max)]
    return StepStats(step, rows, len(shards), sum(p.stat().st_size for p in shards),
                     min(times, default=None), max(times, default=None))


def verify(layout: Layout) -> list[str]:
    """Read every row back; return what is wrong, with the file: damage, a key that is not its payload's, torn files.

    Changes nothing. Memory: one shard.
    """
    problems = []
    for step in steps(layout):
        for shard in list_shards(layout.folder("rows", step)):
            try:
                problems += _wrong_keys(shard, read_shard(shard, list(SCHEMA)))
            except FileGone:
                continue  # compacted meanwhile
            except StoreCorrupt as e:
                problems.append(str(e))
    return problems + [f"{p} is an unfinished file older than a day; cai store gc removes it"
                       for p in _temporary(layout, DAY)]


def _wrong_keys(shard: Path, rows: pl.DataFrame) -> list[str]:
    wrong = [key for key, payload in rows.select("row_key", "payload").iter_rows() if key != payload_key(payload)]
    if not wrong:
        return []
    return [f"{shard}: {len(wrong)} of {rows.height} rows have a key that is not their payload's, first {wrong[0]}"]


def payload_key(payload: str) -> str:
    """The row key of a stored payload. It is stored in canonical form, so its text is what ``tagged_hash`` hashes."""
    return f"r1:{hashlib.blake2b(payload.encode(), digest_size=16).hexdigest()}"


def compact(layout: Layout, step: str, *, target: int = LARGE_ROWS, settled: float = SETTLED) -> Compaction:
    """Merge neighbouring shards of fewer than ``target`` rows into shards of about so many.

    Shards younger than ``settled`` seconds wait for the next time: one still being published could belong between
    them. Needs as much free space as the shards it merges take. Raise Busy if another one runs, OSError without space,
    StoreCorrupt for a shard that cannot be read; then nothing is removed.
    """
    if step not in steps(layout):
        raise LookupError(f"no step {step!r} in the row store; there are: {', '.join(steps(layout)) or 'none yet'}")
    folder = layout.folder("rows", step)
    with _alone(folder):
        shards = _finish_removal(folder)
        settled_until = time.time_ns() - int(settled * 1e9)
        groups = _groups([s for s in shards if _age(s) < settled_until], target)
        _check_space(folder, sum(s.stat().st_size for g in groups for s in g))
        dropped = sum(_merge(group) for group in groups)
        _remove(folder, [s for g in groups for s in g])
    return Compaction(len(shards), len(shards) - sum(map(len, groups)) + len(groups), dropped)


def _groups(shards: Sequence[Path], target: int) -> list[list[Path]]:
    """Runs of neighbours to merge. A large shard ends a run: joining across it would change which row is earliest."""
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


def _merge(shards: Sequence[Path]) -> int:
    """Publish the rows of ``shards``, each key once, as one shard; return how many rows were dropped."""
    seen: set[str] = set()
    dropped = 0

    def first(rows: pl.DataFrame) -> pl.DataFrame:
        nonlocal dropped
        new = [key not in seen and not seen.add(key) for key in rows["row_key"]]  # type: ignore[func-returns-value]
        dropped += len(new) - sum(new)
        return rows.filter(pl.Series(new, dtype=pl.Boolean))

    _rewrite(shards, first)
    return dropped


def _rewrite(shards: Sequence[Path], keep: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Publish what ``keep`` leaves of ``shards`` as one shard as old as the first. Memory: one input shard."""
    path = shard_path(shards[0].parent, _age(shards[0]))
    schema = ARROW.with_metadata({INPUTS: json.dumps([s.name for s in shards]).encode()})
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            waiting = pl.DataFrame(schema=SCHEMA)
            for shard in shards:
                waiting = pl.concat([waiting, keep(read_shard(shard, list(SCHEMA)))])
                whole = len(waiting) if shard is shards[-1] else len(waiting) // GROUP_ROWS * GROUP_ROWS
                if whole:
                    writer.write_table(waiting[:whole].to_arrow().cast(schema), row_group_size=GROUP_ROWS)
                waiting = waiting[whole:]
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _finish_removal(folder: Path) -> list[Path]:
    """Remove inputs that a crash left beside the shard made of them; return the shards that remain."""
    shards = list_shards(folder)
    merged = {folder / name for s in shards for name in _footer(s)[1]}
    _remove(folder, [s for s in shards if s in merged])
    return [s for s in shards if s not in merged]


def _remove(folder: Path, shards: Iterable[Path]) -> None:
    for shard in shards:
        shard.unlink()
    sync_folder(folder)


def _footer(shard: Path) -> tuple[int, list[str]]:
    """Number of rows, and the names of the shards it was made of."""
    with open_parquet(shard) as file:
        found = (file.metadata.metadata or {}).get(INPUTS, b"[]")
        return file.metadata.num_rows, json.loads(found)


def _age(shard: Path) -> int:
    return int(shard.name.partition("-")[0])


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed * 1.1:
        raise OSError(f"compaction needs {needed * 1.1 / 1e9:.1f} GB free beside {folder}; there are {free / 1e9:.1f}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the step's upkeep lock; the system releases it if the process dies."""
    with (folder / ".upkeep.lock").open("w") as lock:
        if not _locked(lock):
            raise Busy(f"another compaction or collection is at work in {folder}; wait for it")
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def gc(layout: Layout, records: Records, *, apply: bool, grace: float = DAY) -> list[Garbage]:
    """What no record names and is older than ``grace`` seconds; with ``apply``, also remove it.

    Rows are named by any column ``row_key*`` of a table that a record names (``path``, or a path in ``details``).
    A record that made calls, but whose tables have no such column, says not which rows it used: every row as old as
    the record, or older, is kept. A table folder of which no record names a table is left alone. Apply it when no
    run is going on: a run that reuses an unnamed row has no record yet. Raise Busy, or StoreCorrupt if a table that
    a record names cannot be read.
    """
    every = [r for folder in layout.folder("records").iterdir() if folder.is_dir() for r in records.every(folder.name)]
    named = {path for r in every for path in _paths(r)}
    before = time.time() - grace
    found = [*_dead_rows(layout, every, before, apply),
             *_dead_tables(layout, named, before),
             *_dead_checkpoints(layout, named | {r.digest.partition(":")[2] for r in every}, before)]
    if apply:
        for item in found:
            _discard(layout, item)
    return [*found, *_dead_work(layout, before, apply), *_dead_temporary(layout, grace, apply)]


def _paths(record: Record) -> Iterator[str]:
    """Every path under the data root that a record names."""
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from texts(inner)

    yield record.path
    yield from (t for t in texts(record.details) if t.startswith(("tables/", "checkpoints/")))


def _named_keys(layout: Layout, every: Sequence[Record]) -> tuple[pl.DataFrame, datetime | None]:
    """Keys that tables name, and the time of the newest record that made calls without naming their rows."""
    keys, silent = [pl.Series("row_key", [], dtype=pl.String)], []
    done: dict[str, bool] = {}
    for record in every:
        for path in (p for p in _paths(record) if p.startswith("tables/") and p not in done):
            found = _table_keys(layout.absolute(path))
            keys += found
            done[path] = bool(found)
        if record.generated + record.reused > 0 and not any(done.get(p) for p in _paths(record)):
            silent.append(record.created)
    return pl.concat(keys).unique().to_frame(), max(silent, default=None)


def _table_keys(path: Path) -> list[pl.Series]:
    if not path.exists():
        return []
    with open_parquet(path) as file:
        columns = [c for c in file.schema_arrow.names if c.startswith("row_key")]
    frame = read_parquet(path, columns) if columns else pl.DataFrame()
    return [frame[c].cast(pl.String).drop_nulls().unique().alias("row_key") for c in columns]


def _dead_rows(layout: Layout, every: Sequence[Record], before: float, apply: bool) -> Iterator[Garbage]:
    named, silent = _named_keys(layout, every)
    young = pl.lit(datetime.fromtimestamp(before, UTC))
    spared = pl.col("created") >= young if silent is None else (
        (pl.col("created") >= young) | (pl.col("created") <= pl.lit(silent.astimezone(UTC))))
    for step in steps(layout):
        folder = layout.folder("rows", step)
        with _alone(folder):
            for shard in _finish_removal(folder) if apply else list_shards(folder):
                rows = read_shard(shard, ["row_key", "created"])
                dead = rows.filter(~spared).join(named, on="row_key", how="anti")
                if dead.height:
                    share = shard.stat().st_size * dead.height // rows.height
                    yield Garbage("rows", shard, share, dead.height)
                    if apply:
                        _drop(shard, dead, whole=dead.height == rows.height)


def _drop(shard: Path, dead: pl.DataFrame, *, whole: bool) -> None:
    if not whole:
        _rewrite([shard], lambda rows: rows.join(dead, on=["row_key", "created"], how="anti", maintain_order="left"))
    _remove(shard.parent, [shard])


def _dead_tables(layout: Layout, named: set[str], before: float) -> Iterator[Garbage]:
    for folder in layout.folder("tables").iterdir():
        paths = sorted(folder.glob("[0-9a-f]*.parquet"))
        unnamed = [p for p in paths if layout.relative(p) not in named]
        for path in unnamed if len(unnamed) < len(paths) else []:
            if path.stat().st_mtime < before:
                yield Garbage("table", path, path.stat().st_size)


def _dead_checkpoints(layout: Layout, named: set[str], before: float) -> Iterator[Garbage]:
    for path in sorted(layout.folder("checkpoints").glob("*/*/")):
        if layout.relative(path) not in named and path.name not in named and _newest(path) < before:
            yield Garbage("checkpoint", path, _size(path))


def _discard(layout: Layout, item: Garbage) -> None:
    if item.kind == "table":
        item.path.unlink()
    elif item.kind == "checkpoint":  # first out of sight in one rename, so that half of it never passes for a whole
        away = layout.file("work", f"removed-{uuid.uuid4().hex}")
        os.replace(item.path, away)
        shutil.rmtree(away)


def _dead_work(layout: Layout, before: float, apply: bool) -> Iterator[Garbage]:
    """Work folders whose lock nobody holds. A lock file stays: another process may be waiting on it."""
    for path in sorted(layout.folder("work").glob("*/")):
        lock_file = path.with_name(f"{path.name}.lock")
        with lock_file.open("r+") if lock_file.exists() else nullcontext() as lock:
            if _newest(path) < before and (lock is None or _locked(lock)):
                yield Garbage("work", path, _size(path))
                if apply:
                    shutil.rmtree(path)


def _dead_temporary(layout: Layout, grace: float, apply: bool) -> Iterator[Garbage]:
    for path in _temporary(layout, grace):
        yield Garbage("temporary", path, path.stat().st_size)
        if apply:
            path.unlink()


def _temporary(layout: Layout, age: float) -> list[Path]:
    """Files that a writer did not finish, older than ``age`` seconds."""
    found = [p for name in ("rows", "tables", "records") for p in layout.folder(name).rglob(".*.tmp")]
    return [p for p in sorted(found) if p.stat().st_mtime < time.time() - age]


def _newest(folder: Path) -> float:
    return max(p.stat().st_mtime for p in [folder, *folder.rglob("*")])


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
