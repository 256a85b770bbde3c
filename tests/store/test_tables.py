"""Tables in parts: the same bytes and digest whatever the parts, and side by side by prompt in any order."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cai_assets.store.layout import Layout
from cai_assets.store.parquet import GROUP_ROWS, parquet_bytes
from cai_assets.store.records import Records
from cai_assets.store.tables import Held, Scratch, Table, aligned, table_digest

ROWS = 2 * GROUP_ROWS + 1234
LONG = pl.DataFrame({
    "prompt_id": [f"p{i:07d}" for i in range(ROWS)], "n": range(ROWS),
    "messages": [[{"role": "user", "content": f"say {i % 997}"}] * (i % 3) for i in range(ROWS)],
    "text": [None if i % 5 == 0 else f"text {i % 1009} é" for i in range(ROWS)], "p": [i / 7 for i in range(ROWS)],
}, schema_overrides={"messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String}))})


@pytest.mark.parametrize("rows", [ROWS, GROUP_ROWS, 10, 0])
def test_a_table_is_the_same_bytes_whatever_the_parts_it_comes_in(tmp_path: Path, rows: int) -> None:
    frame, records = LONG[:rows], Records(Layout(tmp_path))
    parts = [frame.clear(), *(frame[at:at + 30_011] for at in range(0, rows, 30_011))]
    (saved,) = records.save_tables(["prompts"], ((part,) for part in parts))
    assert saved.path.read_bytes() == parquet_bytes(frame)
    assert saved.digest == Table(saved.path).digest == table_digest(frame)
    assert saved.path.stem == saved.digest.partition(":")[2]
    assert records.save_table("prompts", frame) == (saved.digest, saved.path)
    assert [*saved.path.parent.glob(".*")] == []  # nothing half-written stays


def test_some_rows_and_columns_are_read_in_parts_as_at_once() -> None:
    scratch = Scratch()
    table, where = scratch.keep([LONG]), pl.col("n") % 1000 == 7
    assert (table.height, table.columns) == (ROWS, LONG.columns)
    assert pl.concat(table.parts("text", "n")).equals(LONG.select("text", "n"))
    assert table.read("text", where=where).equals(LONG.filter(where).select("text"))
    assert table.read(where=where).equals(LONG.filter(where))
    assert table.count(where) == LONG.filter(where).height
    assert table.head(3, "text", where=where).equals(LONG.filter(where).select("text").head(3))
    assert table.head(0).schema == LONG.schema


def test_what_fails_while_it_is_made_leaves_nothing(tmp_path: Path) -> None:
    records = Records(Layout(tmp_path))

    def failing() -> object:
        yield (LONG[:10],)
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        records.save_tables(["prompts"], failing())  # type: ignore[arg-type]
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("shuffled", [False, True])
def test_tables_lie_side_by_side_by_prompt(shuffled: bool) -> None:
    prompts, rounds = LONG.select("prompt_id", "n").filter(pl.col("n") % 3 > 0), LONG.select("prompt_id", "n")
    several = pl.concat([rounds, rounds.with_columns(n=-pl.col("n"))]).sort("prompt_id", maintain_order=True)
    scratch = Scratch()
    first, second = (scratch.keep([t.sample(fraction=1, shuffle=True, seed=1) if shuffled else t])
                     for t in (prompts, several))
    wanted = several.join(prompts, on="prompt_id", how="semi").group_by("prompt_id").agg(pl.col("n").sort())
    parts = [two.join(one, on="prompt_id", how="semi") for one, two in aligned(first.in_order(), second.in_order("n"))]
    assert shuffled == (len(parts) == 1)
    found = pl.concat(parts)
    assert found["prompt_id"].is_sorted()
    assert found.group_by("prompt_id").agg(pl.col("n").sort()).sort("prompt_id").equals(wanted.sort("prompt_id"))
    assert [len(two) for _, two in aligned(Held(prompts.clear()).in_order(), second.in_order())] == [0]
