from __future__ import annotations

import random
import threading
from pathlib import Path

import polars as pl
import pytest
from object_store import DataRoot

from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, RecordDamaged, RecordMissing, Records
from cai_assets.store.tables import table_digest


def record(digest: str = "t1:x") -> Record:
    return Record(asset="critiques", partition="harmlessness-v1-0123abcd", digest=digest, path="tables/critiques/x")


def test_a_later_record_never_replaces_an_earlier_one(root: DataRoot) -> None:
    records = Records(Layout(root))
    first, second = records.add(record("t1:1")), records.add(record("t1:2"))
    assert (first.number, second.number) == (1, 2)
    assert records.latest("critiques", "harmlessness-v1-0123abcd") == second
    assert records.get(first.ref) == first


def test_a_record_is_read_once_for_all_who_ask_under_one_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    made = Records(layout).add(record())
    get, names = layout.storage.get, list[str]()
    monkeypatch.setattr(layout.storage, "get", lambda name: (names.append(name), get(name))[1])
    assert [Records(layout).latest(made.asset, made.partition) for _ in range(3)] == [made] * 3
    assert len(names) == 1


def test_concurrent_writers_get_numbers_of_their_own(root: DataRoot) -> None:
    records = Records(Layout(root))
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.extend(records.add(record()).number for _ in range(10)))
               for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(numbers) == list(range(1, 81))
    assert not list(Layout(root).root.rglob("*.tmp"))


def test_a_missing_record_says_what_to_do(root: DataRoot) -> None:
    with pytest.raises(RecordMissing, match="revisions for v is not materialized yet"):
        Records(Layout(root)).latest("revisions", "v")


def test_tables_are_named_by_their_content(root: DataRoot) -> None:
    records = Records(Layout(root))
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[{"role": "user"}], []]})
    digest, path = records.save_table("prompts", frame)
    assert records.save_table("prompts", frame.clone()) == (digest, path)
    saved = record().model_copy(update={"path": Layout(root).relative(path)})
    assert records.table(saved).equals(frame)
    assert table_digest(frame.with_columns(a=pl.Series([1, 3]))) != digest
    assert table_digest(frame.with_columns(pl.col("a").cast(pl.Int32))) != digest


def test_partitions_with_records(root: DataRoot) -> None:
    records = Records(Layout(root))
    records.add(record())
    records.add(record().model_copy(update={"partition": None}))
    assert records.partitions("critiques") == ["harmlessness-v1-0123abcd"]


def test_no_changed_record_is_read(tmp_path: Path) -> None:
    records = Records(Layout(tmp_path))
    written = records.add(record().model_copy(update={"details": {"seed": 0, "plan": {"lines": [1.5, None]}}}))
    path = tmp_path / "records" / f"{written.ref.id}.json"
    whole, said = path.read_bytes(), list[str]()
    for bit in random.Random(5).sample(range(len(whole) * 8), 400):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert records.get(written.ref) == written  # where a space became another kind of space
        except RecordDamaged as e:
            said.append(str(e))
    assert len(said) > 360
    assert all(str(path) in line for line in said)
    assert all("cai materialize harmlessness-v1-0123abcd --select critiques" in line for line in said)
    path.write_bytes(whole)
    path.rename(path.with_name("000002.json"))
    with pytest.raises(RecordDamaged, match="says it is critiques"):
        records.latest("critiques", "harmlessness-v1-0123abcd")


def test_a_name_twice_in_a_record_is_damage(tmp_path: Path) -> None:
    records = Records(Layout(tmp_path))
    path = tmp_path / "records" / f"{records.add(record()).ref.id}.json"
    path.write_bytes(path.read_bytes().replace(b'"rows"', b'"rows": null,\n "rows"'))
    with pytest.raises(RecordDamaged, match="'rows' is there twice"):
        records.every("critiques")
