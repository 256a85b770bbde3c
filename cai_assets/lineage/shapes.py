"""How each asset's table holds rows: the column of their ids, of their parents' ids, of their texts and keys.

A row names its parents: a revision its critique, a critique the text it is of, a label its two responses, a response
its prompt. Nothing is guessed from names or order: a row without an id in a table has no chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cai_assets.assets import SHAPES, Shape
from cai_assets.lineage.origins import ORIGIN, as_struct
from cai_assets.store.parquet import as_frame, open_parquet, read_parquet, read_table

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
COPIED: dict[str, pl.DataType] = {
    "prompt_id": pl.String(), "pair_id": pl.String(), "round": pl.Int32(), "principle_digest": pl.String(),
    "label": pl.String(), "p_chosen": pl.Float64(), "error": pl.String(), "kind": pl.String(),
    "category": pl.String(), "split": pl.String(), "source": pl.String(), "critique_of": pl.String(), "origin": ORIGIN,
}
ROWS: dict[str, pl.DataType] = {
    "row_id": pl.String(), "asset": pl.String(), "version": pl.String(), **COPIED,
    "principle_ids": pl.List(pl.String()), "text": pl.String(), "messages": MESSAGES,
    "row_keys": pl.List(pl.String()), "parents": pl.List(pl.String()),
}


class Table(NamedTuple):
    """A table of an asset. ``version``: the constitution version it was made for, if any. ``origins``: of prompts."""

    asset: str
    path: Path
    version: str | None = None
    origins: Path | None = None


class Part(NamedTuple):
    """The rows of one shape in a table, which has the columns ``names``."""

    table: Table
    shape: Shape
    names: tuple[str, ...]

    def read(self, columns: Iterable[str | None], rows: pl.Series | None = None) -> pl.DataFrame:
        """Those of the columns that the table has; with ``rows`` (sorted positions) only these. Raise StoreCorrupt."""
        wanted = [n for n in dict.fromkeys(columns) if n in self.names]
        return as_frame(read_table(self.table.path, wanted, rows))


def parts_of(tables: Iterable[Table]) -> list[Part]:
    """The parts of tables, in the order in which ids are taken to be made. Raise StoreCorrupt."""
    order = list(SHAPES)
    parts = []
    for table in sorted(dict.fromkeys(tables), key=lambda t: (order.index(t.asset), t.origins is None)):
        names = tuple(columns(table.path))
        parts += [Part(table, shape, names) for shape in SHAPES[table.asset] if shape.id in names]
    return parts


def columns(path: Path) -> list[str]:
    """Column names of a Parquet file. Raise StoreCorrupt."""
    with open_parquet(path) as file:
        return list(file.schema_arrow.names)


def read_rows(part: Part, rows: pl.Series | None = None, only: Sequence[str] = tuple(ROWS)) -> pl.DataFrame:
    """Rows of a part as ROWS, or ``only`` some columns of these; with ``rows`` (sorted positions) only these rows.

    Raise StoreCorrupt.
    """
    shape, table = part.shape, part.table
    behind = {"row_id": (shape.id,), "parents": shape.parents, "row_keys": shape.keys, "text": (shape.text,),
              "principle_ids": ("principle_id", "votes"), "origin": ("prompt_id", "origin"),
              "messages": ("messages",) if shape.messages else ()}
    frame = part.read([c for name in only for c in behind.get(name, (name,))], rows)
    if table.origins is not None and "origin" in only:
        frame = frame.join(as_struct(read_parquet(table.origins)), on="prompt_id", how="left", maintain_order="left")
    kinds = frame.schema
    columns = {"row_id": pl.col(shape.id), "asset": pl.lit(table.asset), "version": pl.lit(table.version, pl.String),
               "principle_ids": principles(kinds), "row_keys": _list_of(shape.keys, kinds),
               "parents": _list_of(shape.parents, kinds),
               "text": pl.col(str(shape.text)) if kinds.get(shape.text or "") == pl.String else pl.lit(None)}
    return frame.select(columns.get(c, pl.col(c) if c in kinds else pl.lit(None)).cast(ROWS[c]).alias(c) for c in only)


def principles(kinds: Mapping[str, pl.DataType]) -> pl.Expr:
    """The ids of the principles behind a row: those that voted, if several did, or the one that it drew."""
    own = pl.when(pl.col("principle_id").is_not_null()).then(pl.concat_list("principle_id")) if (
        "principle_id" in kinds) else pl.lit(None, pl.List(pl.String))
    votes = kinds.get("votes")
    if isinstance(votes, pl.List) and isinstance(votes.inner, pl.Struct):
        voters = pl.col("votes").list.eval(pl.element().struct.field("principle_id")).list.drop_nulls()
        own = pl.when(pl.col("votes").list.len() > 1).then(voters).otherwise(own)
    return own.fill_null(pl.lit([], pl.List(pl.String)))


def characters(part: Part, rows: pl.Series) -> pl.Series:
    """Lengths of the texts of some rows (sorted positions) of a part; of a conversation, of all its turns together."""
    frame = part.read([part.shape.text], rows)
    if frame.width == 0:
        return pl.Series("characters", [0] * len(rows), dtype=pl.Int64)
    text = pl.col(frame.columns[0])
    each = said(text) if frame.dtypes[0] == MESSAGES else text.str.len_chars()
    return frame.select(characters=each.cast(pl.Int64).fill_null(0)).to_series()


def said(messages: pl.Expr) -> pl.Expr:
    """Characters of all turns of a conversation."""
    return messages.list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()


def _list_of(names: Sequence[str], kinds: Mapping[str, pl.DataType]) -> pl.Expr:
    """One list of ids from string and list columns, without empty ones."""
    there = [n for n in names if n in kinds]
    none = pl.lit([], pl.List(pl.String))
    if not there:
        return none
    lists = [pl.when(pl.col(n) != "").then(pl.concat_list(n)) if kinds[n] == pl.String else pl.col(n) for n in there]
    return pl.concat_list(x.fill_null(none) for x in lists)
