"""The rows that a checkpoint goes back to, with their texts: read in parts, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from cai_assets.assets import ASKED, LABELS
from cai_assets.lineage.chain import Read, around, chain
from cai_assets.lineage.graph import Graph, Places, ancestors, graph
from cai_assets.lineage.shapes import ROWS, Part, Table, columns, parts_of, read_rows, said
from cai_assets.lineage.sizes import Counts, lengths, tokens
from cai_assets.store.parquet import GROUP_ROWS, as_frame, open_parquet, read_table
from cai_assets.store.row_store import RowStore

# Beside ROWS: sizes, the checkpoints whose data a row is in (once for each time), and by which principles the labeler
# graded the responses to it.
MARKED: dict[str, pl.DataType] = {
    **ROWS, "characters": pl.Int64(), "tokens": pl.Int64(), "trained_in": pl.List(pl.String()),
    "held_out_in": pl.List(pl.String()), "graded_by": pl.List(pl.String()),
}
MARKS: dict[str, pl.DataType] = {"place": pl.UInt32(), "held_out": pl.Boolean(), "graded_by": pl.String(),
                                 "checkpoint": pl.String()}


class Rows(Protocol):
    """Rows as MARKED: those that were trained on and all that they came from."""

    @property
    def count(self) -> int: ...

    def read(self, start: int, stop: int) -> pl.DataFrame:
        """Those from one number to another. Raise StoreCorrupt."""

    def chain(self, target: str) -> pl.DataFrame:
        """The chain of one among them, as ``chain.chain``. Raise UnknownRow, StoreCorrupt."""


def batches(rows: Rows) -> Iterator[pl.DataFrame]:
    """All rows, some at a time; one empty frame if there are none."""
    for start in range(0, max(1, rows.count), GROUP_ROWS):
        yield rows.read(start, start + GROUP_ROWS)


class UsedRows:
    """The rows of ``tables`` that ``trained`` (TRAINED by checkpoint) go back to, or with ``every`` all.

    ``graph``: of all of them, or None: it is made when it is needed.
    """

    def __init__(self, graph: Graph | None, tables: Sequence[Table], store: RowStore,
                 trained: Mapping[str, pl.DataFrame], *, every: bool = False) -> None:
        self._found, self._tables, self._store, self._trained, self._every = graph, tables, store, trained, every

    @cached_property
    def _graph(self) -> Graph:
        return self._found or graph(self._tables)

    @cached_property
    def _places(self) -> Places:
        if self._every:
            return np.arange(self._graph.rows.height, dtype=np.int32)
        used = [self._graph.places(frame["row_id"]) for frame in self._trained.values()]
        return ancestors(np.concatenate([np.zeros(0, np.int32), *used]), self._graph.parents)

    @cached_property
    def _tokens(self) -> Counts:
        return tokens(self._graph, self._store, self._places)

    @cached_property
    def _marks(self) -> pl.DataFrame:
        parts = [frame.select(
            pl.Series("place", self._graph.places(frame["row_id"])), "held_out", "graded_by", checkpoint=pl.lit(name))
            for name, frame in sorted(self._trained.items())]
        placed = [p.filter(pl.col("place") >= 0).cast({"place": pl.UInt32}) for p in parts]
        return pl.concat([pl.DataFrame(schema=MARKS), *placed]).sort("place", maintain_order=True)

    @property
    def count(self) -> int:
        return len(self._places)

    def read(self, start: int, stop: int) -> pl.DataFrame:
        places, graph = self._places[start:stop], self._graph
        if not len(places):
            return pl.DataFrame(schema=MARKED)
        texts = [read_rows(part, at) for part, _, at in graph.by_part(places)]
        rows = pl.concat([pl.DataFrame(schema=ROWS), *texts])
        rows = rows.with_columns(
            pl.Series("place", places, dtype=pl.UInt32), _characters(rows, graph, places),
            pl.Series("tokens", self._tokens[start:stop]).replace(-1, None))
        return _marked(rows, places, self._marks)

    def chain(self, target: str) -> pl.DataFrame:
        readers: list[Read] = [partial(_of_part, part) for part in parts_of(self._tables)]
        near = around(readers, target)
        ids = pl.concat([read(["row_id"], at)["row_id"] for read, at in zip(readers, near, strict=True)]).implode()
        trained = {name: frame.filter(pl.col("row_id").is_in(ids)) for name, frame in self._trained.items()}
        mine = UsedRows(graph(self._tables, near), self._tables, self._store, trained, every=self._every)
        return chain(mine.read(0, mine.count), target)


class FileRows:
    """The rows that a file of MARKED holds; columns that an older one lacks are null."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = columns(path)

    @property
    def count(self) -> int:
        with open_parquet(self._path) as file:
            return int(file.metadata.num_rows)

    def read(self, start: int, stop: int) -> pl.DataFrame:
        return self._some(list(MARKED), pl.Series(range(start, min(stop, self.count)), dtype=pl.UInt32))

    def chain(self, target: str) -> pl.DataFrame:
        (near,) = around([self._some], target)
        return chain(self._some(list(MARKED), near), target)

    def _some(self, only: Sequence[str], rows: pl.Series | None) -> pl.DataFrame:
        there = as_frame(read_table(self._path, [n for n in self._names if n in {*only, "row_id"}], rows))
        return there.select((pl.col(n) if n in there.columns else pl.lit(None)).cast(MARKED[n]).alias(n) for n in only)


def _of_part(part: Part, only: Sequence[str], rows: pl.Series | None) -> pl.DataFrame:
    return read_rows(part, rows, only)


def _characters(rows: pl.DataFrame, graph: Graph, places: Places) -> pl.Series:
    """As ``sizes.lengths``, for rows whose texts are at hand."""
    text, prompt = pl.col("text").str.len_chars(), pl.col("asset").is_in(ASKED)
    size = pl.when(prompt).then(said(pl.col("messages"))).otherwise(text)
    each = rows.select(characters=size.cast(pl.Int64).fill_null(0)).to_series().to_numpy().copy()
    labels = graph.of(LABELS, places)
    each[labels] = lengths(graph, places[labels])
    return pl.Series("characters", each)


def _marked(rows: pl.DataFrame, places: Places, marks: pl.DataFrame) -> pl.DataFrame:
    """``rows`` at sorted places as MARKED, with what ``marks`` (MARKS, sorted) say of these."""
    start, stop = (marks["place"].search_sorted(end, "left") for end in (int(places[0]), int(places[-1]) + 1))
    each = marks[start:stop].group_by("place", maintain_order=True).agg(
        trained_in=pl.col("checkpoint").filter(~pl.col("held_out")),
        held_out_in=pl.col("checkpoint").filter("held_out"),
        graded_by=pl.col("graded_by").drop_nulls().unique().sort())
    none = pl.lit([], dtype=pl.List(pl.String))
    return rows.join(each, on="place", how="left", maintain_order="left").with_columns(
        pl.col("trained_in", "held_out_in", "graded_by").fill_null(none)).select(list(MARKED))
