"""Tables, each by the digest in its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from cai_assets.lineage.verify.problem import RESTORE, Problem
from cai_assets.store.folders import read
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import StoreCorrupt, open_parquet, parquet_bytes, read_parquet
from cai_assets.store.records import Record
from cai_assets.store.storage import UnsafeName
from cai_assets.store.tables import table_digest

WRITER = re.compile(r"parquet-cpp-arrow version \d+\.\d+\.\d+")


def tables(layout: Layout, records: Mapping[str, Record]) -> Iterator[Problem]:
    """Every table by the digest in its name; and those that records name must be there, with that digest."""
    users: dict[Path, list[str]] = {}
    for name, record in records.items():
        for stored in record.named_tables():
            try:
                users.setdefault(layout.absolute(stored), []).append(name)
            except UnsafeName as e:
                yield Problem("record", str(layout.path("records", f"{name}.json")), str(e), RESTORE)
        if record.path.startswith("tables/") and Path(record.path).stem != record.digest.partition(":")[2]:
            yield Problem("record", str(layout.path("records", f"{name}.json")),
                          f"names {record.path} with the digest {record.digest}", RESTORE)
    layout.local("tables")
    stored_tables = {layout.path(e.name) for e in layout.storage.list("tables") if e.name.endswith(".parquet")}
    for path in sorted({*users, *stored_tables}):
        used = f", and {users[path][0]} names it" if path in users else ""
        again = f"materialize {path.parent.name} again with the same settings, or {RESTORE}"
        if path not in stored_tables:
            yield Problem("table", str(path), f"is missing{used}", again)
            continue
        try:
            frame = read_parquet(path)
            digest = table_digest(frame)
        except StoreCorrupt as e:
            yield Problem("table", str(path), f"cannot be read{used}: {e}", f"move it away and {again}")
            continue
        if digest.partition(":")[2] != path.stem:
            yield Problem("table", str(path), f"has the content of {digest}{used}", f"move it away and {again}")
        elif other_bytes(path, frame):
            yield Problem("table", str(path), f"holds its rows, but bytes around them were changed{used}",
                          f"move it away and {again}")


def other_bytes(path: Path, frame: pl.DataFrame) -> bool:
    """Whether a readable file has other bytes than its rows are written with.

    Page checksums do not cover headers and footers, and statistics there decide which rows a reader skips. Another
    version or build of the writer gives another length, and is no change.
    """
    with open_parquet(path) as file:
        writer = file.metadata.created_by
    written = parquet_bytes(frame)
    if WRITER.fullmatch(writer) and writer.encode() not in written:
        return False
    stored = read(path.parent, path.name)
    return stored is not None and len(stored) == len(written) and stored != written
