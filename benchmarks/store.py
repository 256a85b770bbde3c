"""The row store at scale: ``python benchmarks/store.py --rows N [--no-baseline] [--folder DIR] [--json]``.

Appends N synthetic rows (payload about 500 bytes, text about 200), looks up N/10 requests of which half are stored,
compacts, and looks up again. Each stage runs in its own process, so peak memory is that stage's.
Baselines, on the same rows: Polars alone, a streaming semi-join over the compacted shards; and one SQLite file, a table
with the row key as indexed primary key, written 512 rows a transaction (as many as a shard has) in WAL mode with 256 MB
of cache, looked up 500 keys a query.
'scattered' requests are drawn evenly over the store; 'recent' ones are the newest rows, as when a run is repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.store.compaction import compact
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import SHARD_ROWS, RowStore, StoredRow

STEP = "respond"
COLUMNS = ["row_key", "payload", "text", "finish", "logprobs", "prompt_tokens", "completion_tokens"]
BYTES_A_ROW = 2500  # of free disk, for store, compaction and baseline together
SPREAD = 2654435761  # a prime that spreads successive numbers over the phrases
WORDS = [f"{j:x}" * 2 for j in range(2000)]
PHRASES = [" ".join(random.Random(i).choices(WORDS, k=12)) for i in range(20_000)]
PREFIX = ('{"call":{"answers":[],"continuation":"","messages":[{"content":"You are a careful assistant. Answer the '
          'question truthfully, and decline to help with what would hurt somebody.","role":"system"},{"content":"')
SUFFIX = '","role":"user"}],"sampling":{"max_tokens":256,"temperature":1.0,"top_p":1.0}},"seed":0,"step":"respond"}'


def make_row(i: int) -> StoredRow:
    a, b, c, d = (PHRASES[i * SPREAD // step % len(PHRASES)] for step in (1, 7, 49, 343))
    payload = f"{PREFIX}{i} {a}{SUFFIX}"
    return StoredRow(row_key(payload), payload, f"{b} {c} {d}", "stop", [], 90, 28)


def row_key(payload: str) -> str:
    return f"r1:{hashlib.blake2b(payload.encode(), digest_size=16).hexdigest()}"


def requests(rows: int, kind: str) -> list[str]:
    """N/10 keys in random order: half stored, half not."""
    count = rows // 20
    chosen = range(rows - count, rows) if kind == "recent" else random.Random(0).sample(range(rows), count)
    keys = [make_row(i).row_key for i in chosen] + [make_row(rows + i).row_key for i in range(count)]
    random.Random(1).shuffle(keys)
    return keys


def append(root: Path, rows: int) -> float:
    start = time.monotonic()
    with RowStore(Layout(root)).writer(STEP) as writer:
        for i in range(rows):
            writer.add(make_row(i))
    return time.monotonic() - start


def anti_join(root: Path, rows: int, kind: str) -> float:
    keys = requests(rows, kind)
    start = time.monotonic()
    known = RowStore(Layout(root)).known(STEP, keys)
    seconds = time.monotonic() - start
    return _checked(seconds, len(known), rows // 20)


def look_up(root: Path, rows: int, kind: str, payload: bool) -> float:
    keys = requests(rows, kind)
    start = time.monotonic()
    found = RowStore(Layout(root)).lookup(STEP, keys, payload=payload)
    seconds = time.monotonic() - start
    return _checked(seconds, len(found), rows // 20)


def compacted(root: Path, rows: int) -> float:
    start = time.monotonic()
    compact(Layout(root), STEP, settled=0)
    return time.monotonic() - start


def sqlite_append(path: Path, rows: int) -> float:
    start = time.monotonic()
    with _sqlite(path) as db:
        db.execute("CREATE TABLE rows (row_key TEXT PRIMARY KEY, payload TEXT, text TEXT, finish TEXT, logprobs TEXT,"
                   " prompt_tokens INT, completion_tokens INT, thought TEXT, thought_state TEXT)")
        source = map(make_row, range(rows))
        while batch := [(*r[:4], json.dumps(r.logprobs), *r[5:]) for r in islice(source, SHARD_ROWS)]:
            db.executemany("INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?)", batch)
            db.commit()
    return time.monotonic() - start


def sqlite_look_up(path: Path, rows: int, kind: str, columns: str) -> float:
    keys = requests(rows, kind)
    start = time.monotonic()
    with _sqlite(path) as db:
        found = {r[0]: r for r in _select(db, keys, columns)}
    seconds = time.monotonic() - start
    return _checked(seconds, len(found), rows // 20)


def polars_look_up(root: Path, rows: int, kind: str, columns: list[str]) -> float:
    """What is stored of the requests, by nothing but Polars, which checks nothing."""
    keys = requests(rows, kind)
    start = time.monotonic()
    shards = pl.scan_parquet(root / "rows" / STEP / "*.parquet").select(columns)
    found = shards.join(pl.LazyFrame({"row_key": keys}), on="row_key", how="semi").collect(engine="streaming")
    held = dict(zip(found["row_key"], found.iter_rows(), strict=True))
    seconds = time.monotonic() - start
    return _checked(seconds, len(held), rows // 20)


def _checked(seconds: float, found: int, expected: int) -> float:
    if found != expected:
        raise RuntimeError(f"{found} rows found, {expected} stored")
    return seconds


def _select(db: sqlite3.Connection, keys: list[str], columns: str) -> Iterator[tuple[Any, ...]]:
    for i in range(0, len(keys), 500):
        part = keys[i:i + 500]
        yield from db.execute(f"SELECT {columns} FROM rows WHERE row_key IN ({','.join('?' * len(part))})",  # noqa: S608
                              part)


def _sqlite(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-262144"):
        db.execute(f"PRAGMA {pragma}")
    return db


def measure(work: Callable[..., float], *arguments: Any) -> dict[str, float]:
    """Run in a fresh process; return seconds and its peak memory in GB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, peak = pool.apply(_measured, (work, arguments))
    return {"seconds": round(seconds, 3), "peak_gb": round(peak, 3)}


def _measured(work: Callable[..., float], arguments: tuple[Any, ...]) -> tuple[float, float]:
    seconds = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds, peak / (1e9 if sys.platform == "darwin" else 1e6)


def gigabytes(folder: Path) -> float:
    return round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e9, 4)


def run(root: Path, rows: int, baseline: bool, say: Callable[[str, dict[str, Any]], None]) -> None:
    ours, other = root / "store", root / "sqlite"
    ours.mkdir()
    other.mkdir()
    say("append", {**measure(append, ours, rows), "disk_gb": gigabytes(ours)})
    say("anti-join, small shards", measure(anti_join, ours, rows, "scattered"))
    say("look-up scattered, small shards", measure(look_up, ours, rows, "scattered", True))
    say("compaction", {**measure(compacted, ours, rows), "disk_gb": gigabytes(ours)})
    say("anti-join, compacted", measure(anti_join, ours, rows, "scattered"))
    for kind in ("scattered", "recent"):
        say(f"look-up {kind}, compacted", measure(look_up, ours, rows, kind, True))
        say(f"look-up {kind}, compacted, no payload", measure(look_up, ours, rows, kind, False))
    if baseline:
        say("Polars anti-join", measure(polars_look_up, ours, rows, "scattered", ["row_key"]))
        for kind in ("scattered", "recent"):
            say(f"Polars look-up {kind}", measure(polars_look_up, ours, rows, kind, COLUMNS))
        path = other / "rows.sqlite"
        say("SQLite append", {**measure(sqlite_append, path, rows), "disk_gb": gigabytes(other)})
        say("SQLite anti-join", measure(sqlite_look_up, path, rows, "scattered", "row_key"))
        for kind in ("scattered", "recent"):
            say(f"SQLite look-up {kind}", measure(sqlite_look_up, path, rows, kind, "*"))


COMPACTED = {"anti-join": "anti-join, compacted", "look-up scattered": "look-up scattered, compacted",
             "look-up recent": "look-up recent, compacted"}
OTHERS = {"SQLite": {"append": "append", **COMPACTED}, "Polars": COMPACTED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--smallest", dest="rows", action="store_const", const=2000, help="as the tests run it")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--no-baseline", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    where = arguments.folder or Path(tempfile.gettempdir())
    needed, free = arguments.rows * BYTES_A_ROW, shutil.disk_usage(where).free
    if free < needed:
        sys.exit(f"needs {needed / 1e9:.1f} GB free in {where}, has {free / 1e9:.1f}: use --folder or fewer --rows")
    result: dict[str, Any] = {"rows": arguments.rows}

    def say(name: str, numbers: dict[str, Any]) -> None:
        result[name] = numbers
        if not arguments.json:
            print(f"{name:42} " + " · ".join(f"{v:10.3f} {k}" for k, v in numbers.items()), flush=True)

    with tempfile.TemporaryDirectory(dir=where, prefix="cai-store-") as folder:
        run(Path(folder), arguments.rows, not arguments.no_baseline, say)
    if not arguments.no_baseline:
        for other, names in OTHERS.items():
            say(f"ratio to {other} (below 1: faster)", {
                name: round(result[ours]["seconds"] / result[f"{other} {name}"]["seconds"], 2)
                for name, ours in names.items()})
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
