from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from object_store import DataRoot

from cai_assets.store import compaction, folders, upkeep
from cai_assets.store import row_store as store_module
from cai_assets.store.canonical import canonical_json, tagged_hash
from cai_assets.store.compaction import compact
from cai_assets.store.keys import payload_key
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import StoreCorrupt, open_parquet, parquet_bytes
from cai_assets.store.row_store import RowStore, StoredRow, read_shard
from cai_assets.store.upkeep import stats, verify


def row(number: int, text: str = "first") -> StoredRow:
    payload = canonical_json({"step": "label", "number": number, "text": "naïve 👩‍👧 \u2028 \x00"})
    return StoredRow(payload_key(payload), payload, text, "stop", [-0.5, -1.25], 3, 4)


def fill(layout: Layout, numbers: range, text: str = "first", *, step: str = "label", shard_rows: int = 5) -> None:
    """Shards of ``shard_rows`` rows."""
    with RowStore(layout).writer(step) as writer:
        for i, number in enumerate(numbers, 1):
            writer.add(row(number, text))
            if i % shard_rows == 0:
                writer.flush()


def keys(numbers: range) -> list[str]:
    return [row(n).row_key for n in numbers]


def test_the_key_of_a_payload_is_the_key_it_was_asked_by() -> None:
    payload = {"b": [1.5, None, True], "a": "é\n\u2028"}
    assert payload_key(canonical_json(payload)) == tagged_hash("r1", payload)


def test_stats_count_rows_shards_bytes_and_ages(root: DataRoot) -> None:
    layout = Layout(root)
    assert stats(layout) == []
    fill(layout, range(12))
    (found,) = stats(layout)
    assert (found.step, found.rows, found.shards) == ("label", 12, 3)
    assert found.bytes == sum(p.stat().st_size for p in RowStore(layout).shards("label"))
    created = pl.concat(read_shard(p, ["created"]) for p in RowStore(layout).shards("label"))["created"]
    assert (found.oldest, found.newest) == (created.min(), created.max())


def test_compaction_is_advised_for_many_small_shards_and_not_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    monkeypatch.setattr(upkeep, "SMALL_SHARDS", 4)
    fill(layout, range(15))
    assert [(s.small, s.compaction_advised) for s in stats(layout)] == [(3, False)]
    fill(layout, range(15, 20))
    assert [(s.small, s.compaction_advised) for s in stats(layout)] == [(4, True)]
    compact(layout, "label", settled=0)
    assert [(s.small, s.compaction_advised) for s in stats(layout)] == [(1, False)]


def test_verify_names_damage_wrong_keys_and_torn_files_and_removes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    fill(layout, range(12))
    assert verify(layout) == []
    damaged, _, wrong = RowStore(layout).shards("label")
    good = bytearray(damaged.read_bytes())
    good[good.index(b"first")] ^= 4
    damaged.write_bytes(good)
    frame = read_shard(wrong, list(store_module.SCHEMA))
    wrong.write_bytes(parquet_bytes(frame.with_columns(payload=pl.lit("{}"))))
    torn, fresh = damaged.with_name(".1-a.parquet.x.tmp"), damaged.with_name(".2-b.parquet.y.tmp")
    torn.touch()
    fresh.touch()
    os.utime(torn, (time.time() - 100_000, time.time() - 100_000))
    before = sorted(tmp_path.rglob("*"))
    problems = verify(layout)
    assert len(problems) == 3
    for path, problem in zip((damaged, wrong, torn), problems, strict=True):
        assert str(path) in problem
    assert sorted(tmp_path.rglob("*")) == before


def test_compaction_keeps_every_row_as_it_was(root: DataRoot) -> None:
    layout, store = Layout(root), RowStore(Layout(root))
    fill(layout, range(53))
    columns = list(store_module.SCHEMA)
    rows = pl.concat(read_shard(p, columns) for p in store.shards("label"))
    truth = store.lookup("label", keys(range(60)))
    assert compact(layout, "label", target=20, settled=0) == (11, 3, 0)
    assert len(store.shards("label")) == 3
    assert pl.concat(read_shard(p, columns) for p in store.shards("label")).equals(rows)
    assert store.lookup("label", keys(range(60))) == truth
    assert verify(layout) == []
    assert compact(layout, "label", target=20, settled=0) == (3, 3, 0)


def test_the_earliest_still_speaks_and_later_duplicates_go(root: DataRoot) -> None:
    layout, store = Layout(root), RowStore(Layout(root))
    fill(layout, range(10), "first")
    fill(layout, range(20), "second")
    done = compact(layout, "label", target=15, settled=0)
    fill(layout, range(30), "third")
    compact(layout, "label", target=15, settled=0)
    found = store.lookup("label", keys(range(30)))
    assert done.dropped == 5  # only those within one merged group: 15 rows make a group here
    texts = [found[k].text for k in keys(range(30))]
    assert texts == ["first"] * 10 + ["second"] * 10 + ["third"] * 10


def test_a_merged_shard_is_as_old_as_its_oldest_input(root: DataRoot) -> None:
    layout, store = Layout(root), RowStore(Layout(root))
    fill(layout, range(10), "first")
    fill(layout, range(30), "second", shard_rows=30)
    assert compact(layout, "label", target=20, settled=0) == (3, 2, 0)
    texts = [store.lookup("label", keys(range(30)))[k].text for k in keys(range(30))]
    assert texts == ["first"] * 10 + ["second"] * 20


def test_a_merge_never_reaches_across_a_large_shard(root: DataRoot) -> None:
    layout, store = Layout(root), RowStore(Layout(root))
    fill(layout, range(5), "old")
    fill(layout, range(100, 130), "large", shard_rows=30)
    fill(layout, range(100, 105), "late")
    assert compact(layout, "label", target=20, settled=0) == (3, 3, 0)
    assert store.lookup("label", keys(range(100, 101)))[row(100).row_key].text == "large"


def test_young_shards_wait(root: DataRoot) -> None:
    fill(Layout(root), range(20))
    assert compact(Layout(root), "label", target=100) == (4, 4, 0)


def test_one_compaction_at_a_time(tmp_path: Path) -> None:
    fill(Layout(tmp_path), range(20))
    with (tmp_path / "rows/label/.upkeep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(compaction.Busy, match="wait"):
            compact(Layout(tmp_path), "label", settled=0)


def test_an_unknown_step_is_an_error_and_makes_no_folder(root: DataRoot) -> None:
    fill(Layout(root), range(5))
    with pytest.raises(LookupError, match="label"):
        compact(Layout(root), "lable")
    assert not Layout(root).path("rows", "lable").exists()


def test_too_little_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    fill(layout, range(20))
    before = sorted(tmp_path.rglob("*.parquet"))
    monkeypatch.setattr(compaction.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(OSError, match="free"):
        compact(layout, "label", settled=0)
    assert sorted(tmp_path.rglob("*.parquet")) == before


def test_a_damaged_shard_stops_compaction_and_loses_nothing(tmp_path: Path) -> None:
    layout, store = Layout(tmp_path), RowStore(Layout(tmp_path))
    fill(layout, range(20))
    bad = store.shards("label")[2]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(StoreCorrupt, match=bad.name):
        compact(layout, "label", target=100, settled=0)
    bad.write_bytes(whole)
    assert store.known("label", keys(range(20))) == set(keys(range(20)))


@pytest.mark.parametrize("point", ["remove", "sync_folder"])
def test_a_crash_between_publishing_and_removing_is_harmless_and_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    layout, store = Layout(tmp_path), RowStore(Layout(tmp_path))
    fill(layout, range(40))
    truth = store.lookup("label", keys(range(40)))
    module = compaction if point == "remove" else folders
    real, calls = compaction.compact, 0

    def crash(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, point, crash)
        with pytest.raises(KeyboardInterrupt):
            real(layout, "label", target=20, settled=0)
    assert len(store.shards("label")) > 8
    assert store.lookup("label", keys(range(40))) == truth
    compact(layout, "label", target=20, settled=0)
    assert store.lookup("label", keys(range(40))) == truth
    assert stats(layout)[0].rows == 40
    assert len(store.shards("label")) == 2


def test_a_merged_shard_names_its_inputs(root: DataRoot) -> None:
    layout = Layout(root)
    fill(layout, range(20))
    names = [p.name for p in RowStore(layout).shards("label")]
    compact(layout, "label", target=100, settled=0)
    (shard,) = RowStore(layout).shards("label")
    with open_parquet(shard) as file:
        assert json.loads(file.metadata.metadata[compaction.INPUTS]) == names
    assert shard.name[:20] == names[0][:20]


def test_an_index_finds_what_a_look_up_finds_also_while_shards_are_added_and_replaced(root: DataRoot) -> None:
    layout, store = Layout(root), RowStore(Layout(root))
    fill(layout, range(20))
    index, wanted = store.index("label"), [*keys(range(60)), "r1:" + "0" * 16 + keys(range(1))[0][-16:]]

    def found() -> dict[str, StoredRow]:
        return store.lookup("label", wanted, payload=False)

    assert index.lookup(wanted) == found()
    fill(layout, range(10, 40))
    assert index.lookup(wanted).keys() == set(keys(range(20)))
    index.update()
    assert index.lookup(wanted) == found()
    compact(layout, "label", settled=0)
    assert index.lookup(wanted) == found(), "the shards it knows are gone"
    index.update()
    assert index.lookup(wanted) == found()
    assert store.index("none").lookup(wanted) == {}


def test_an_index_reads_a_shard_once_however_often_a_step_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, read, real = Layout(tmp_path), list[str](), store_module._shard_table
    store = RowStore(layout)

    def counted(path: Path, columns: list[str], rows: pl.Series | None = None) -> pa.Table:
        if columns == ["row_key"]:
            read.append(path.name)
        return real(path, columns, rows)

    monkeypatch.setattr(store_module, "_shard_table", counted)
    fill(layout, range(10))
    first = store.index("label")
    assert set(first.lookup(keys(range(12)))) == set(keys(range(10)))
    fill(layout, range(10, 12))
    assert set(store.index("label").lookup(keys(range(12)))) == set(keys(range(12)))
    assert len(read) == len(set(read)) == len(store.shards("label"))
    assert set(first.lookup(keys(range(12)))) == set(keys(range(10))), "whoever has one already says when it goes on"
