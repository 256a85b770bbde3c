"""All rows of some tables as numbers: who came from whom, for millions of rows in seconds.

A row's *place* is its number, from 0. What a walk needs (parents, principles, labels) lies in arrays by place; texts,
keys and sizes are read only for the rows that are asked for. Ids become numbers by a dictionary of strings, so two
different ids never pass for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cai_assets.lineage.shapes import Part, Table, parts_of, principles

Places = npt.NDArray[np.int32]
PARENTS = 2  # no shape has more
LIGHT: dict[str, pl.DataType] = {"number": pl.Int32(), "part": pl.UInt32(), "position": pl.UInt32(),
                                 "principle": pl.String(), "p_chosen": pl.Float64(),
                                 **{f"parent_{i}": pl.Int32() for i in range(PARENTS)}}
VOTERS: dict[str, pl.DataType] = {"number": pl.Int32(), "part": pl.UInt32(), "principle": pl.String()}


class Numbers:
    """Ids as numbers: equal ids have equal ones, from 0 on; an empty id or null has -1."""

    def __init__(self) -> None:
        self._type = pl.Categorical(pl.Categories.random("lineage"))
        # Polars forgets the numbers when no series has the type. The first is that of no id.
        self._dictionary = pl.Series([""], dtype=self._type)

    def __call__(self, ids: pl.Series) -> pl.Series:
        return ids.cast(self._type).to_physical().cast(pl.Int32).fill_null(0) - 1


class Lookup:
    """Places by number. ``own``: the number of each place, in order."""

    def __init__(self, own: pl.Series) -> None:
        # One entry more, of -1: found by the number -1, and by those of ids that are no row.
        self._at = np.full(2 + (int(str(own.max())) if len(own) else -1), -1, dtype=np.int32)
        self._at[own.to_numpy()] = np.arange(len(own), dtype=np.int32)

    def __call__(self, numbers: pl.Series) -> Places:
        places: Places = self._at[np.minimum(numbers.to_numpy(), len(self._at) - 1)]
        return places


@dataclass(frozen=True)
class Graph:
    """``rows``: by place, ``part`` (an index into ``parts``), ``position`` in its table, ``principle``, ``p_chosen``.

    ``parents``: PARENTS arrays by place, -1 where there is none. ``voters``: ``place`` and ``principle`` of labels that
    several principles voted on; ``principle`` of such a row is null.
    """

    parts: tuple[Part, ...]
    rows: pl.DataFrame
    parents: tuple[Places, ...]
    voters: pl.DataFrame
    _numbers: Numbers
    _lookup: Lookup

    def places(self, ids: pl.Series) -> Places:
        """The place of each id, -1 if there is no such row."""
        return self._lookup(self._numbers(ids))

    def assets(self) -> pl.DataFrame:
        """``part``, ``asset`` and ``version`` of each part."""
        about = [(i, p.table.asset, p.table.version) for i, p in enumerate(self.parts)]
        return pl.DataFrame(about, schema={"part": pl.UInt32, "asset": pl.String, "version": pl.String}, orient="row")

    def of(self, asset: str, places: Places) -> npt.NDArray[np.bool_]:
        """Which of the places are rows of an asset."""
        wanted = np.array([p.table.asset == asset for p in self.parts], dtype=bool)
        mask: npt.NDArray[np.bool_] = wanted[self.rows["part"].to_numpy()[places]]
        return mask

    def by_part(self, places: Places) -> Iterator[tuple[Part, Places, pl.Series]]:
        """Sorted places by part, with their positions in its table."""
        part, position = self.rows["part"].to_numpy()[places], self.rows["position"].to_numpy()[places]
        bounds = np.flatnonzero(np.diff(part)) + 1
        for here, at in zip(np.split(places, bounds), np.split(position, bounds), strict=True):
            if len(here):
                yield self.parts[int(self.rows["part"][int(here[0])])], here, pl.Series(at)

    def drawn(self) -> pl.DataFrame:
        """``place``, ``version`` and ``principle`` of every row that a principle shaped; by voters one for each."""
        own = self.rows.select("principle").with_row_index("place").drop_nulls("principle")
        each = pl.concat([own, self.voters]).with_columns(part=self.rows["part"].gather(pl.concat(
            [own["place"], self.voters["place"]])))
        return each.join(self.assets(), on="part").select("place", "version", "principle")


def graph(tables: Iterable[Table], some: Sequence[pl.Series] | None = None) -> Graph:
    """The rows of tables, each id once: as the first table has it, in the order of SHAPES. Raise StoreCorrupt.

    ``some``: of each part (``parts_of``) only the rows at these sorted positions.
    """
    numbers, parts = Numbers(), tuple(parts_of(tables))
    read = [_light(part, i, numbers, None if some is None else some[i]) for i, part in enumerate(parts)]
    rows = pl.concat([pl.DataFrame(schema=LIGHT), *(r for r, _ in read)])
    voters = pl.concat([pl.DataFrame(schema=VOTERS), *(v for _, v in read)])
    del read
    rows = rows.filter((pl.col("number") >= 0) & pl.col("number").is_first_distinct())
    lookup = Lookup(rows["number"])
    parents = tuple(lookup(rows[f"parent_{i}"]) for i in range(PARENTS))
    kept = rows.select("number", "part").with_row_index("place")
    cast = voters.join(kept, on=["number", "part"]).select("place", "principle")
    return Graph(parts, rows.select("part", "position", "principle", "p_chosen"), parents, cast, numbers, lookup)


def _light(part: Part, index: int, numbers: Numbers, rows: pl.Series | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    shape = part.shape
    frame = part.read(["principle_id", "votes", "p_chosen", shape.id, *shape.parents], rows)
    above = [n for n in shape.parents if n in frame.columns]
    optional = {n: e for n, e in (("principle", "principle_id"), ("p_chosen", "p_chosen")) if e in frame.columns}
    made = frame.select(
        numbers(frame[shape.id]).alias("number"), pl.lit(index, pl.UInt32).alias("part"),
        (pl.int_range(pl.len()) if rows is None else rows).cast(pl.UInt32).alias("position"),
        *(pl.col(optional[n]).cast(LIGHT[n]).alias(n) if n in optional else pl.lit(None, LIGHT[n]).alias(n)
          for n in ("principle", "p_chosen")),
        *((numbers(frame[above[i]]) if i < len(above) else pl.lit(-1, pl.Int32)).alias(f"parent_{i}")
          for i in range(PARENTS)))
    if "votes" not in frame.columns:
        return made, pl.DataFrame(schema=VOTERS)
    several = frame.select(votes=principles(frame.schema)).with_columns(made["number"], made["part"]).filter(
        frame["votes"].list.len().fill_null(0) > 1)
    cast = several.explode("votes").drop_nulls("votes").select("number", "part", principle="votes")
    return made.with_columns(principle=pl.when(frame["votes"].list.len().fill_null(0) <= 1).then("principle")), cast


def ancestors(start: Places, parents: tuple[Places, ...]) -> Places:
    """``start`` and all that it came from, sorted. Places of -1 are left out."""
    seen = np.zeros(len(parents[0]), dtype=bool)
    frontier = np.unique(start[start >= 0])
    while len(frontier):
        seen[frontier] = True
        above = np.concatenate([column[frontier] for column in parents])
        above = above[above >= 0]
        frontier = np.unique(above[~seen[above]])
    return np.flatnonzero(seen).astype(np.int32)


def descendants(start: Places, parents: tuple[Places, ...]) -> Places:
    """``start`` and all that came from it, sorted. Places of -1 are left out."""
    seen = np.zeros(len(parents[0]) + 1, dtype=bool)  # a parent of -1 finds the last entry, which stays False
    seen[start[start >= 0]] = True
    before = 0
    while (now := int(np.count_nonzero(seen))) > before:
        before = now
        for column in parents:
            seen[:-1] |= seen[column]
    return np.flatnonzero(seen).astype(np.int32)


def spread(own: npt.NDArray[np.uint64], parents: tuple[Places, ...]) -> npt.NDArray[np.uint64]:
    """For each place the bits of it and of all that it came from."""
    linked = [(np.flatnonzero(column >= 0), column[column >= 0]) for column in parents]
    bits = own.copy()
    while True:
        before = bits.copy()
        for child, parent in linked:
            bits[child] |= bits[parent]
        if np.array_equal(before, bits):
            return bits
