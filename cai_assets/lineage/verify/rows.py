"""The row store: every shard by its rows, and every call that a table names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from cai_assets.lineage.shapes import columns
from cai_assets.lineage.verify.problem import RESTORE, Problem
from cai_assets.lineage.verify.tables import other_bytes
from cai_assets.store import upkeep
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import StoreCorrupt, read_parquet
from cai_assets.store.records import Record
from cai_assets.store.row_store import SCHEMA, RowStore, read_shard


def shards(layout: Layout) -> Iterator[Problem]:
    """Shards that cannot be read, hold other rows than their keys say, or were changed around their rows."""
    todo = f"move it away: the next run regenerates its rows; or {RESTORE}"
    named = set[str]()
    for problem in upkeep.verify(layout):
        path = _path_in(problem)
        named.add(path)
        yield Problem("rows", path, problem, upkeep.ASK if upkeep.NO_ANSWER in problem else todo)
    for shard in (s for step in upkeep.steps(layout) for s in RowStore(layout).shards(step)):
        if str(shard) not in named and other_bytes(shard, read_shard(shard, list(SCHEMA))):
            yield Problem("rows", str(shard), "holds its rows, but bytes around them were changed", todo)


def calls(layout: Layout, records: Mapping[str, Record]) -> Iterator[Problem]:
    """Finished calls that tables name and the row store does not have."""
    store = RowStore(layout)
    try:
        known = pl.concat([pl.DataFrame(schema={"row_key": pl.String}),
                           *(store.keys(step).select("row_key") for step in upkeep.steps(layout))])
    except StoreCorrupt:
        return  # named already
    tables = {t for r in records.values() for t in r.named_tables()}
    for stored in sorted(tables):
        path = layout.absolute(stored)
        try:
            missing = named_calls(path).join(known, on="row_key", how="anti")
        except StoreCorrupt:
            continue  # named already
        if missing.height:
            first = missing["row_key"].sort().to_list()[0]
            yield Problem("rows", str(layout.path("rows")), f"{missing.height} calls that {stored} names are gone, "
                          f"first {first}", f"{RESTORE}; without them they are regenerated")


def named_calls(path: Path) -> pl.DataFrame:
    """Row keys of the rows of a table that finished: failed, missing and ungraded ones are excluded."""
    names = columns(path)
    keys = [n for n in names if n.startswith("row_key")]
    if not keys:
        return pl.DataFrame(schema={"row_key": pl.String})
    failed = [n for n in names if n in {"error", "missing"} or n.endswith("_error")]
    frame = read_parquet(path, [*keys, *failed, *({"outcome", "response"} & set(names))])
    frame = frame.filter(pl.all_horizontal(pl.lit(True), *(pl.col(n).is_null() for n in failed)))
    if "response" in frame.columns:
        frame = frame.filter(pl.col("response").is_not_null())
    if frame.schema.get("outcome") == pl.String:
        frame = frame.filter(pl.col("outcome").ne_missing("ungraded"))
    # Each column by itself: one that is null says nothing of the others.
    each = [frame.select(row_key=pl.col(n).explode() if frame.schema[n] == pl.List else n) for n in keys]
    return pl.concat(each).drop_nulls().filter(pl.col("row_key") != "").unique()


def _path_in(problem: str) -> str:
    """The path that a message of ``upkeep.verify`` begins with."""
    return re.split(r": | cannot be | is an? ", problem, maxsplit=1)[0]
