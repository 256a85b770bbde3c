"""Writers, readers and compaction at the same time, each in processes of its own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from object_store import DataRoot
from patience import Watch, until

from cai_assets.store import row_store as module
from cai_assets.store.canonical import canonical_json
from cai_assets.store.compaction import Busy, compact
from cai_assets.store.files import write_atomic
from cai_assets.store.keys import payload_key
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore, StoredRow
from cai_assets.store.upkeep import stats, verify

SHARED = range(50)
WRITERS, ROWS = 2, 600
CONTEXT = multiprocessing.get_context("spawn")


def row(name: str, text: str) -> StoredRow:
    payload = canonical_json({"name": name})
    return StoredRow(payload_key(payload), payload, text, "stop", [-0.5], 3, 4)


def shared(text: str) -> list[StoredRow]:
    return [row(f"shared {i}", text) for i in SHARED]


def own(writer: int, count: int) -> list[StoredRow]:
    return [row(f"writer {writer} row {i}", "own") for i in range(count)]


def write(root: DataRoot, writer: int) -> None:
    """Own rows, and later duplicates of the shared ones."""
    module.SHARD_ROWS = 5
    late = shared("late")
    with RowStore(Layout(root)).writer("label") as out:
        for i, mine in enumerate(own(writer, ROWS)):
            out.add(mine)
            out.add(late[i % len(late)])
            time.sleep(0.002)


def read(root: DataRoot, stop: Path) -> None:
    """Everything once seen stays, and the earliest text speaks. Raise if not."""
    store = RowStore(Layout(root))
    early, seen = {r.row_key for r in shared("")}, set[str]()
    mine = [r.row_key for w in range(WRITERS) for r in own(w, ROWS)]
    while not stop.exists():
        found = store.lookup("label", [*early, *mine])
        assert seen <= found.keys(), f"{len(seen - found.keys())} rows are gone"
        assert {found[k].text for k in early} == {"first"}
        seen = set(found)


def compact_forever(root: DataRoot, stop: Path) -> None:
    while not stop.exists():
        try:
            compact(Layout(root), "label", target=150, settled=0.3)
        except Busy:
            time.sleep(0.01)


@pytest.mark.fault("writers, readers and compaction at once")
def test_nothing_is_lost_while_writers_readers_and_compaction_run_together(root: DataRoot, tmp_path: Path) -> None:
    store, stop = RowStore(Layout(root)), tmp_path / "stop"
    for first in shared("first"):
        with store.writer("label") as out:
            out.add(first)
    writers = [CONTEXT.Process(target=write, args=(root, w)) for w in range(WRITERS)]
    others = [CONTEXT.Process(target=f, args=(root, stop)) for f in (read, read, compact_forever, compact_forever)]
    for p in (*others, *writers):
        p.start()
    for p in writers:
        p.join()
    stop.touch()
    for p in others:
        p.join()
    assert [p.exitcode for p in (*writers, *others)] == [0] * 6
    expected = {r.row_key: r for r in (*shared("first"), *(r for w in range(WRITERS) for r in own(w, ROWS)))}
    assert store.lookup("label", expected) == expected
    compact(Layout(root), "label", settled=0)
    assert store.lookup("label", expected) == expected
    assert stats(Layout(root))[0].rows == len(expected)
    assert verify(Layout(root)) == []


def write_and_compact(root: Path, trial: int) -> None:
    """Note how many rows are on disk, then compact; again and again."""
    layout = Layout(root)
    rows = own(trial, 100_000)
    for start in range(0, len(rows), 60):
        for shard in range(start, start + 60, 6):
            with RowStore(layout).writer("label") as out:
                for r in rows[shard:shard + 6]:
                    out.add(r)
        write_atomic(root / f"{trial}.txt", str(start + 60).encode())
        compact(layout, "label", target=50, settled=0)


@pytest.mark.fault("kill -9 of a compaction or of a writer of rows")
@pytest.mark.parametrize("trial", range(4))
def test_a_killed_compaction_loses_nothing(tmp_path: Path, trial: int) -> None:
    layout, note = Layout(tmp_path), tmp_path / f"{trial}.txt"
    process = CONTEXT.Process(target=write_and_compact, args=(tmp_path, trial))
    process.start()
    until(note.exists, Watch(tmp_path, processes=[os.getpid()]))
    time.sleep(random.Random(trial).uniform(0.2, 0.6))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    rows = {r.row_key: r for r in own(trial, int(note.read_text()))}
    assert rows
    assert RowStore(layout).lookup("label", rows) == rows
    assert verify(layout) == []
    compact(layout, "label", settled=0)
    assert RowStore(layout).lookup("label", rows) == rows
    assert stats(layout)[0].rows == len(RowStore(layout).keys("label"))
    assert verify(layout) == []
