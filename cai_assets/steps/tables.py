"""Rows into tables, a batch at a time: as Python objects rows take several times the memory of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import polars as pl

BATCH = 4096
Fields = Mapping[str, object]
T = TypeVar("T")


def table(rows: Iterable[Fields], schema: Mapping[str, Any]) -> pl.DataFrame:
    """The rows in order; what one lacks is null."""
    return tables(((row,) for row in rows), schema)[0]


def tables(rows: Iterable[tuple[Fields, ...]], *schemas: Mapping[str, Any]) -> tuple[pl.DataFrame, ...]:
    """As many tables as there are schemas; each of ``rows`` gives a row to every one."""
    parts = [[pl.DataFrame(schema=schema)] for schema in schemas]
    for batch in _batches(rows):
        for part, schema, own in zip(parts, schemas, zip(*batch, strict=True), strict=True):
            part.append(pl.DataFrame({name: [row.get(name) for row in own] for name in schema}, schema=schema))
    return tuple(pl.concat(part, rechunk=True) for part in parts)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := [*islice(rest, BATCH)]:
        yield batch
