"""Origins in a row's chain: joined from their own table; a store without any reads as before."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cai_assets.lineage.graph import graph
from cai_assets.lineage.origins import ORIGINS, Origin, of_struct
from cai_assets.lineage.principles import influence
from cai_assets.lineage.rows import MARKED, FileRows, UsedRows, batches
from cai_assets.lineage.shapes import MESSAGES, Table
from cai_assets.lineage.trace import tables_of
from cai_assets.lineage.training_rows import TRAINED
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import write_parquet
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import RowStore

FOUND = Origin("complied", "rl_policy", "mild-v1-00000000", "k1:0123", "jailbreak", "wrapped", "locks~story", "r1:89")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def prompts(layout: Layout, *, origins: bool) -> Record:
    records = Records(layout)
    frame = pl.DataFrame({
        "prompt_id": ["old", "new"], "kind": "red-team", "category": "pranks", "split": "train",
        "messages": pl.Series([[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]], dtype=MESSAGES),
        "source": ["one.jsonl", "two.jsonl"], "line": 1})
    digest, path = records.save_table("prompts", frame)
    details = {}
    if origins:
        _, side = records.save_table("prompt_origins", pl.DataFrame([("new", *FOUND)], schema=ORIGINS, orient="row"))
        details = {"origins": layout.relative(side)}
    return records.add(Record(asset="prompts", partition=None, digest=digest, details=details,
                              path=layout.relative(path)))


def rows(layout: Layout, *records: Record) -> UsedRows:
    return UsedRows(None, tables_of(layout, records), RowStore(layout), {}, every=True)


def test_the_chain_has_the_origin_and_a_file_keeps_it(layout: Layout, tmp_path: Path) -> None:
    made = rows(layout, prompts(layout, origins=True))
    write_parquet(tmp_path / "rows.parquet", batches(made))
    for source in (made, FileRows(tmp_path / "rows.parquet")):
        by_id = {r["row_id"]: of_struct(r["origin"]) for r in source.read(0, 9).iter_rows(named=True)}
        assert by_id == {"old": None, "new": FOUND}
        assert of_struct(source.chain("new").row(0, named=True)["origin"]) == FOUND


def test_without_origins_the_rows_are_those_of_a_plain_table(layout: Layout) -> None:
    record = prompts(layout, origins=False)
    found = rows(layout, record).read(0, 9)
    assert dict(found.schema) == MARKED
    assert [of_struct(o) for o in found["origin"]] == [None, None]
    plain = UsedRows(None, [Table("prompts", layout.absolute(record.path))], RowStore(layout), {}, every=True)
    assert found.equals(plain.read(0, 9))


def test_a_prompt_found_later_has_its_origin_whichever_record_comes_first(layout: Layout) -> None:
    both = [prompts(layout, origins=False), prompts(layout, origins=True)]
    assert both[0].path == both[1].path
    for order in (both, both[::-1]):
        found = {r["row_id"]: of_struct(r["origin"]) for r in rows(layout, *order).read(0, 9).iter_rows(named=True)}
        assert found == {"old": None, "new": FOUND}


def test_prompt_groups_say_whom_they_broke(layout: Layout) -> None:
    found = graph(tables_of(layout, [prompts(layout, origins=True)]))
    trained = {"x": pl.DataFrame([("old", "old", False, None), ("new", "new", False, None)], schema=TRAINED,
                                 orient="row")}
    groups = influence(found, RowStore(layout), trained, {}).prompts
    assert [(g.source, g.broke, g.prompts) for g in groups] == [
        ("one.jsonl", "", 1), ("two.jsonl", "rl_policy@mild-v1-00000000", 1)]


def test_an_origin_is_named_by_its_record(layout: Layout) -> None:
    record = prompts(layout, origins=True)
    assert record.details["origins"] in record.named_tables()
