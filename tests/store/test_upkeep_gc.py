from __future__ import annotations

import fcntl
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.store.canonical import canonical_json
from cai_assets.store.files import write_atomic
from cai_assets.store.garbage import Garbage, gc, sweep
from cai_assets.store.keys import payload_key
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import StoreCorrupt
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import RowStore, StoredRow
from cai_assets.store.upkeep import DAY, stats, verify

COLUMNS = ("row_key", "row_key_a", "row_key_b", "row_key_first", "row_key_second")


def row(number: int) -> StoredRow:
    payload = canonical_json({"number": number})
    return StoredRow(payload_key(payload), payload, f"text {number}", "stop", [], 3, 4)


def fill(layout: Layout, numbers: range) -> None:
    with RowStore(layout).writer("label") as writer:
        for n in numbers:
            writer.add(row(n))
            if n % 4 == 3:
                writer.flush()


def add_record(layout: Layout, frame: pl.DataFrame, *, asset: str = "pairs", details: dict[str, object] | None = None,
               reused: int = 0, created: datetime | None = None) -> Record:
    records = Records(layout)
    digest, path = records.save_table(asset, frame)
    return records.add(Record(asset=asset, partition=None, digest=digest, path=layout.relative(path), reused=reused,
                              details=details or {}, created=created or datetime.now(UTC)))


def checkpoint(layout: Layout, name: str) -> Path:
    path = layout.folder("checkpoints", "sl_policy", name)
    write_atomic(path / "record.json", b"{}")
    return path


def kinds(found: list[Garbage]) -> dict[str, int]:
    return {kind: sum(g.kind == kind for g in found) for kind in sorted({g.kind for g in found})}


TABLE = st.tuples(st.sampled_from(COLUMNS), st.lists(st.integers(0, 29), max_size=12),
                  st.sampled_from(["path", "details", "no"]))


@settings(max_examples=25)
@given(tables=st.lists(TABLE, max_size=6), checkpoints=st.lists(st.booleans(), max_size=3),
       silent=st.sampled_from([None, -1, 1]))
def test_everything_a_record_names_is_there_afterwards(
    tables: list[tuple[str, list[int], str]], checkpoints: list[bool], silent: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        records = Records(layout)
        fill(layout, range(30))
        named: set[int] = set()
        for i, (column, numbers, how) in enumerate(tables):
            frame = pl.DataFrame({"i": [i] * len(numbers), column: [row(n).row_key for n in numbers]},
                                 schema={"i": pl.Int64, column: pl.String})
            if how == "path":
                add_record(layout, frame, reused=1)
            else:
                _, path = records.save_table("pairs_rows", frame)
                if how == "details":
                    add_record(layout, pl.DataFrame({"n": [i]}), asset="metrics", reused=1,
                               details={"deep": [{"rows": layout.relative(path)}]})
            if how != "no":
                named |= set(numbers)
        if silent:  # made calls and names none of them: a day before the rows were made, or after
            add_record(layout, pl.DataFrame({"x": [1]}), asset="silent", reused=3,
                       created=datetime.now(UTC) + timedelta(days=silent))
            named |= set(range(30)) if silent > 0 else set()
        for i, is_named in enumerate(checkpoints):
            path = checkpoint(layout, f"{i:032x}")
            if is_named:
                records.add(Record(asset="sl_policy", partition="v1", digest=f"k1:{path.name}",
                                   path=layout.relative(path)))
        listed = gc(layout, records, apply=False, grace=0)
        assert len(RowStore(layout).keys("label")) == 30
        assert gc(layout, records, apply=True, grace=0) == listed
        assert set(RowStore(layout).keys("label")["row_key"]) == {row(n).row_key for n in named}
        for n in named:
            assert RowStore(layout).lookup("label", [row(n).row_key]) == {row(n).row_key: row(n)}
        for asset in ("pairs", "metrics", "silent"):
            for record in records.every(asset):
                records.table(record)
        left = {p.name for p in (layout.root / "checkpoints").glob("*/*")}
        assert left == {f"{i:032x}" for i, is_named in enumerate(checkpoints) if is_named}
        assert verify(layout) == []
        assert gc(layout, records, apply=False, grace=0) == []


def test_what_is_young_stays_whatever_names_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    fill(layout, range(8))
    add_record(layout, pl.DataFrame({"row_key": ["r1:x"]}))
    Records(layout).save_table("pairs", pl.DataFrame({"row_key": ["r1:y"]}))
    checkpoint(layout, "aa")
    layout.folder("work", "bb")
    assert gc(layout, Records(layout), apply=True) == []
    assert stats(layout)[0].rows == 8
    found = gc(layout, Records(layout), apply=False, grace=0)
    assert kinds(found) == {"checkpoint": 1, "rows": 2, "table": 1, "work": 1}


def test_a_shard_is_listed_with_its_rows_and_bytes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    fill(layout, range(8))
    add_record(layout, pl.DataFrame({"row_key": [row(n).row_key for n in (0, 1, 2)]}))
    first, second = RowStore(layout).shards("label")
    found = gc(layout, Records(layout), apply=False, grace=0)
    assert found == [Garbage("rows", first, first.stat().st_size // 4, 1),
                     Garbage("rows", second, second.stat().st_size, 4)]


def test_a_work_folder_in_use_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for name in ("aa", "bb"):
        (layout.folder("work", name) / "state").write_bytes(b"12345")
        (layout.folder("work") / f"{name}.lock").touch()
    with (tmp_path / "work/aa.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [(g.path.name, g.bytes) for g in gc(layout, Records(layout), apply=True, grace=0)] == [("bb", 5)]
    assert (tmp_path / "work/aa/state").exists()
    assert not (tmp_path / "work/bb").exists()


def test_tables_of_a_kind_that_no_record_ever_names_are_left_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    Records(layout).save_table("prompt_rejects", pl.DataFrame({"line": [1]}))
    assert gc(layout, Records(layout), apply=True, grace=0) == []


def test_a_named_table_that_cannot_be_read_stops_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    fill(layout, range(8))
    record = add_record(layout, pl.DataFrame({"row_key": [row(0).row_key]}))
    (tmp_path / record.path).write_bytes(b"no table")
    with pytest.raises(StoreCorrupt):
        gc(layout, Records(layout), apply=True, grace=0)
    assert stats(layout)[0].rows == 8


def test_lists_of_keys_name_their_rows(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    fill(layout, range(8))
    lists = [[row(0).row_key, row(5).row_key], [], None, [row(6).row_key, None]]
    add_record(layout, pl.DataFrame({"row_keys_first": lists}, schema={"row_keys_first": pl.List(pl.String)}), reused=1)
    gc(layout, Records(layout), apply=True, grace=0)
    assert set(RowStore(layout).keys("label")["row_key"]) == {row(n).row_key for n in (0, 5, 6)}


def killed(layout: Layout, *names: str, folder: bool = False) -> Path:
    """What a writer left that was killed two days ago."""
    path = layout.file(*names[:-1], "x").with_name(f".{names[-1]}.{7:032x}.tmp")
    (path if folder else path.parent).mkdir(exist_ok=True)
    inside = path / "model.safetensors" if folder else path
    inside.write_bytes(b"half")
    for p in {inside, path}:
        os.utime(p, (time.time() - 2 * DAY, time.time() - 2 * DAY))
    return path


def test_what_killed_writers_left_is_swept_by_age_wherever_it_is(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    fill(layout, range(8))
    files = [killed(layout, *names) for names in (
        ("rows", "label", "1.parquet"), ("tables", "prompts", "a.parquet"), ("records", "prompts", "all", "1.json"),
        ("constitutions", "c-v1-01234567.json"), ("models", "digests.json"), ("reports", "version", "c.html"),
        ("constitutions-order.json",))]
    folders = [killed(layout, "models", "smollm2", folder=True),
               killed(layout, "checkpoints", "sl_policy", "0" * 32, folder=True)]
    kept = [killed(layout, "models", "young"), killed(layout, "models", "loading", folder=True)]
    os.utime(kept[0])
    (kept[1] / "more.safetensors").touch()
    others = [tmp_path / "models" / ".mine.tmp", tmp_path / "models" / "mine.tmp"]
    for path in others:
        path.touch()
        os.utime(path, (0, 0))
    assert {g.path for g in gc(layout, Records(layout), apply=False)} == {*files, *folders}
    assert {g.path for g in sweep(layout)} == {*files, *folders}
    assert [p for p in (*files, *folders) if p.exists()] == []
    assert all(p.exists() for p in (*kept, *others))
    assert sweep(layout) == []
    assert stats(layout)[0].rows == 8


def test_a_checkpoint_that_a_link_leads_to_is_nobodys_garbage(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "root")
    elsewhere = checkpoint(layout, "aa").rename(tmp_path / "elsewhere")
    layout.path("checkpoints", "sl_policy", "aa").symlink_to(elsewhere)
    assert gc(layout, Records(layout), apply=True, grace=0) == []
    assert (elsewhere / "record.json").exists()
