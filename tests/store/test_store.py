from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from object_store import DataRoot
from patience import Watch, until

from cai_assets.store import row_store as module
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import StoreCorrupt
from cai_assets.store.row_store import RowStore, StoredRow


def row(key: str, text: str = "text") -> StoredRow:
    return StoredRow(key, "{}", text, "stop", [-0.5], 3, 4)


def test_rows_come_back_exactly(root: DataRoot) -> None:
    store = RowStore(Layout(root))
    nasty = row("r1:a", "naïve \x00 \N{RIGHT-TO-LEFT OVERRIDE} 👩‍👩‍👧 \n{}")
    with store.writer("critique") as writer:
        writer.add(nasty)
        writer.add(row("r1:b"))
    assert store.lookup("critique", ["r1:a", "r1:missing"]) == {"r1:a": nasty}
    assert store.lookup("revision", ["r1:a"]) == {}


def test_the_earliest_shard_speaks(root: DataRoot) -> None:
    store = RowStore(Layout(root))
    for text in ("first", "second"):
        with store.writer("label") as writer:
            writer.add(row("r1:a", text))
    assert store.lookup("label", ["r1:a"])["r1:a"].text == "first"


def test_rows_added_before_an_error_are_kept(root: DataRoot) -> None:
    store = RowStore(Layout(root))

    def crash() -> None:
        with store.writer("respond") as writer:
            writer.add(row("r1:a"))
            raise RuntimeError("the engine is gone")

    with pytest.raises(RuntimeError, match="engine"):
        crash()
    assert set(store.lookup("respond", ["r1:a"])) == {"r1:a"}


def _write_forever(root: DataRoot) -> None:
    module.SHARD_ROWS = 5
    with RowStore(Layout(root)).writer("respond") as writer:
        for i in range(100_000):
            writer.add(row(f"r1:{os.getpid()}-{i}", "x" * 200))


@pytest.mark.fault("kill -9 of a compaction or of a writer of rows")
def test_a_killed_writer_loses_at_most_one_shard_and_corrupts_none(root: DataRoot) -> None:
    store = RowStore(Layout(root))
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_forever, args=(root,)) for _ in range(2)]
    for w in writers:
        w.start()
    until(lambda: len(store.shards("respond")) >= 20, Watch(processes=[os.getpid()]))
    for w in writers:
        assert w.pid is not None
        os.kill(w.pid, signal.SIGKILL)
        w.join()
    shards = store.shards("respond")
    keys = store.keys("respond")
    assert len(shards) >= 20
    assert keys.height == 5 * len(shards)
    for w in writers:
        numbers = sorted(int(k.rpartition("-")[2]) for k in keys["row_key"] if f":{w.pid}-" in k)
        assert numbers == list(range(len(numbers)))


def test_flipped_bits_are_errors_that_name_the_file(tmp_path: Path) -> None:
    store = RowStore(Layout(tmp_path))
    with store.writer("respond") as writer:
        for i in range(200):
            writer.add(row(f"r1:{i}", f"some text number {i}"))
    (shard,) = store.shards("respond")
    good = shard.read_bytes()
    truth = store.lookup("respond", [f"r1:{i}" for i in range(200)])
    silent = 0
    for place in range(8, len(good) - 8, max(1, len(good) // 120)):
        shard.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1:])
        try:
            silent += store.lookup("respond", [f"r1:{i}" for i in range(200)]) != truth
        except StoreCorrupt as e:
            assert shard.name in str(e)  # noqa: PT017 - both outcomes are right: an error, or the true rows
    assert silent == 0


def test_a_flipped_bit_of_a_footer_which_has_no_checksum_is_never_silent(tmp_path: Path) -> None:
    store = RowStore(Layout(tmp_path))
    with store.writer("respond") as writer:
        for i in range(50):
            writer.add(row(f"r1:{i}", f"text {i}"))
    (shard,) = store.shards("respond")
    good, keys = shard.read_bytes(), [f"r1:{i}" for i in range(50)]
    truth = store.lookup("respond", keys)
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    silent = []
    for place in range(footer, len(good), 9):
        shard.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1:])
        with contextlib.suppress(StoreCorrupt):
            if store.lookup("respond", keys) != truth:
                silent.append(place - footer)
    assert silent == []


def test_known_and_lookup_without_payload_agree_with_lookup(root: DataRoot) -> None:
    store = RowStore(Layout(root))
    for start in (0, 5, 20):
        with store.writer("respond") as writer:
            for i in range(start, start + 10):
                writer.add(row(f"r1:{i}", f"text {start}"))
    keys = [f"r1:{i}" for i in range(40)]
    found = store.lookup("respond", [*keys, *keys])
    assert list(store.keys("respond")["row_key"]) == [f"r1:{i}" for i in (*range(15), *range(20, 30))]
    assert store.known("respond", keys) == set(store.keys("respond")["row_key"]) == set(found)
    assert store.lookup("respond", keys, payload=False) == {k: r._replace(payload="") for k, r in found.items()}


def test_keys_joined_in_several_batches_are_found_once_each(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RowStore(Layout(root))
    monkeypatch.setattr(module, "KEYS_AT_ONCE", 7)
    monkeypatch.setattr(module, "SHARD_ROWS", 4)
    with store.writer("respond") as writer:
        for i in range(40):
            writer.add(row(f"r1:{i % 25}", f"text {i}"))
    found = store.lookup("respond", [f"r1:{i}" for i in range(25)])
    assert {k: r.text for k, r in found.items()} == {f"r1:{i}": f"text {i}" for i in range(25)}
