"""Rows into tables, a batch at a time: as Python objects rows take several times the memory of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import polars as pl

from cai_assets.store.tables import Parts

BATCH = 4096
Fields = Mapping[str, object]
T = TypeVar("T")


def table(rows: Iterable[Fields], schema: Mapping[str, Any]) -> pl.DataFrame:
    """The rows in order; what one lacks is null."""
    return pl.concat([part for part, in parts_of(((row,) for row in rows), schema)], rechunk=True)


def parts_of(rows: Iterable[tuple[Fields, ...]], *schemas: Mapping[str, Any]) -> Iterator[tuple[pl.DataFrame, ...]]:
    """As many tables as there are schemas, a part of each at a time; each of ``rows`` gives a row to every one."""
    yield tuple(pl.DataFrame(schema=schema) for schema in schemas)
    for batch in _batches(rows):
        yield tuple(pl.DataFrame({name: [row.get(name) for row in own] for name in schema}, schema=schema)
                    for schema, own in zip(schemas, zip(*batch, strict=True), strict=True))


def whole(parts: Iterable[tuple[pl.DataFrame, ...]]) -> tuple[pl.DataFrame, ...]:
    """The tables that these are parts of."""
    return tuple(pl.concat(own, rechunk=True) for own in zip(*parts, strict=True))


def beside(parts: Parts, rows: Iterable[Fields], schema: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
    """A table, a part at a time, with the columns of as many rows."""
    rest = iter(rows)
    for part in parts:
        added = table(islice(rest, part.height), schema)
        if added.height != part.height:
            raise ValueError(f"{added.height} rows for a part of {part.height}")
        yield part.with_columns(added.get_columns())
    ended(rest)


def ended(rows: Iterator[object]) -> None:
    """Take the end of what was taken one by one: what gives it closes what it holds. Raise ValueError if any is left.
    """
    if next(rows, None) is not None:
        raise ValueError("more rows than were asked for")


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := [*islice(rest, BATCH)]:
        yield batch
