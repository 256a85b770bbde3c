"""Every artifact against the records: tables, checkpoints, snapshots, the row store, and the records themselves.

Guarantees: nothing is changed; each problem names a file and what to do; every copy that one artifact holds of another
is compared with it. A record is checked where something else speaks of it: the inputs of later records and the lineage
in checkpoint folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import ValidationError

from cai_assets.constitution.digest import digest, partition_key
from cai_assets.constitution.model import Constitution
from cai_assets.lineage import upkeep
from cai_assets.lineage.canonical import digest_file
from cai_assets.lineage.checkpoints import RECORD
from cai_assets.lineage.layout import Layout, UnsafeName
from cai_assets.lineage.parquet import StoreCorrupt, open_parquet, parquet_bytes, read_parquet
from cai_assets.lineage.records import Record, table_digest
from cai_assets.lineage.rounds import round_of
from cai_assets.lineage.shapes import columns
from cai_assets.lineage.snapshots import Journal
from cai_assets.lineage.store import SCHEMA, RowStore, read_shard
from cai_assets.lineage.targets import CHECKPOINTS
from cai_assets.lineage.trace import LINEAGE, Lineage

WRITER = re.compile(r"parquet-cpp-arrow version \d+\.\d+\.\d+")
RESTORE = "restore it from a copy of the data root"


class Problem(NamedTuple):
    """One artifact that is missing or not as it was written."""

    kind: str
    path: str
    what: str
    todo: str


def verify(layout: Layout) -> list[Problem]:
    """Everything that is wrong under a data root. Reads every byte once. Memory: the largest table."""
    records: dict[str, Record] = {}
    found = [*_records(layout, records), *_snapshots(layout), *table_problems(layout, records)]
    found += _checkpoints(layout, records)
    return [*found, *_shards(layout), *_calls(layout, records)]


def _shards(layout: Layout) -> Iterator[Problem]:
    todo = f"move it away: its rows are generated anew by the next run; or {RESTORE}"
    named = set[str]()
    for problem in upkeep.verify(layout):
        path = _path_in(problem)
        named.add(path)
        yield Problem("rows", path, problem, todo)
    for shard in (s for step in upkeep.steps(layout) for s in RowStore(layout).shards(step)):
        if str(shard) not in named and _other_bytes(shard, read_shard(shard, list(SCHEMA))):
            yield Problem("rows", str(shard), "holds its rows, but bytes around them were changed", todo)


def _records(layout: Layout, found: dict[str, Record]) -> Iterator[Problem]:
    """Load every record into ``found``; then check what they say of each other."""
    for path in sorted(layout.folder("records").glob("*/*/[0-9]*.json")):
        try:
            record = Record.model_validate_json(path.read_bytes())
        except (ValidationError, ValueError) as e:
            yield Problem("record", str(path), f"cannot be read: {_first(e)}", RESTORE)
            continue
        if layout.root / "records" / f"{record.ref.id}.json" != path:
            yield Problem("record", str(path), f"says it is {record.ref.id}", RESTORE)
            continue
        if not record.intact:
            yield Problem("record", str(path), "does not say what was written", RESTORE)
            continue
        found[record.ref.id] = record
    for name, record in found.items():
        yield from _said(layout, name, record, found)


def _said(layout: Layout, name: str, record: Record, found: dict[str, Record]) -> Iterator[Problem]:
    path = str(layout.root / "records" / f"{name}.json")
    for ref in record.inputs:
        above = layout.root / "records" / f"{ref.id}.json"
        if not above.exists():
            yield Problem("record", str(above), f"is missing, and {name} was made from it", RESTORE)
        elif ref.id in found and found[ref.id].digest != ref.digest:
            yield Problem("record", str(above), f"names {found[ref.id].digest}, and {name} read {ref.digest} from it",
                          f"{RESTORE}; or {path}, if that one was changed")
    if record.constitution:
        snapshot = layout.root / "constitutions" / f"{round_of(record.constitution).version}.json"
        if not snapshot.exists():
            yield Problem("snapshot", str(snapshot), f"is missing, and {name} was made by it", RESTORE)


def _snapshots(layout: Layout) -> Iterator[Problem]:
    for path in sorted(layout.folder("constitutions").glob("*.json")):
        try:
            constitution = Constitution.model_validate_json(path.read_bytes(), strict=False)
        except (ValidationError, ValueError) as e:
            yield Problem("snapshot", str(path), f"cannot be read: {_first(e)}", RESTORE)
            continue
        if partition_key(constitution) != path.stem:
            yield Problem("snapshot", str(path), f"has the content of {partition_key(constitution)}", RESTORE)
    for name in ("constitutions-order.json", "constitutions-archived.json", "constitutions-derived.json"):
        try:
            Journal(layout.root / name).entries()
        except ValueError as e:
            yield Problem("snapshot", str(layout.root / name), _first(e), RESTORE)
    listed = layout.root / "constitutions-order.json"
    for key in json.loads(listed.read_bytes()) if listed.exists() and _is_json(listed) else []:
        snapshot = layout.root / "constitutions" / f"{round_of(str(key)).version}.json"
        if not snapshot.exists():
            yield Problem("snapshot", str(snapshot), f"is missing, and {listed.name} lists it", RESTORE)


def table_problems(layout: Layout, records: Mapping[str, Record]) -> Iterator[Problem]:
    """Every table by the digest in its name; and those that records name must be there, with that digest."""
    users: dict[Path, list[str]] = {}
    for name, record in records.items():
        for stored in record.named_tables():
            try:
                users.setdefault(layout.absolute(stored), []).append(name)
            except UnsafeName as e:
                yield Problem("record", str(layout.root / "records" / f"{name}.json"), str(e), RESTORE)
        if record.path.startswith("tables/") and Path(record.path).stem != record.digest.partition(":")[2]:
            yield Problem("record", str(layout.root / "records" / f"{name}.json"),
                          f"names {record.path} with the digest {record.digest}", RESTORE)
    for path in sorted({*users, *layout.folder("tables").glob("*/*.parquet")}):
        used = f", and {users[path][0]} names it" if path in users else ""
        again = f"materialise {path.parent.name} again with the same settings, or {RESTORE}"
        if not path.exists():
            yield Problem("table", str(path), f"is missing{used}", again)
            continue
        try:
            frame = read_parquet(path)
            found = table_digest(frame)
        except StoreCorrupt as e:
            yield Problem("table", str(path), f"cannot be read{used}: {e}", f"move it away and {again}")
            continue
        if found.partition(":")[2] != path.stem:
            yield Problem("table", str(path), f"has the content of {found}{used}", f"move it away and {again}")
        elif _other_bytes(path, frame):
            yield Problem("table", str(path), f"holds its rows, but bytes around them were changed{used}",
                          f"move it away and {again}")


def _other_bytes(path: Path, frame: pl.DataFrame) -> bool:
    """Whether a readable file has other bytes than its rows are written with.

    Page checksums do not cover headers and footers, and statistics there decide which rows a reader skips. Another
    version or build of the writer gives another length, and is no change.
    """
    with open_parquet(path) as file:
        writer = file.metadata.created_by
    written = parquet_bytes(frame)
    if WRITER.fullmatch(writer) and writer.encode() not in written:
        return False
    stored = path.read_bytes()
    return len(stored) == len(written) and stored != written


def _checkpoints(layout: Layout, records: dict[str, Record]) -> Iterator[Problem]:
    for folder in sorted(layout.folder("checkpoints").glob("*/*/")):
        yield from checkpoint_problems(folder)
        yield from _copies(layout, folder, records)
    for name, record in records.items():
        if record.asset not in CHECKPOINTS:
            continue
        path = layout.root / "checkpoints" / record.asset / record.digest.partition(":")[2] / RECORD
        again = f"materialise {record.asset} of {record.partition or 'all'} again, or {RESTORE}"
        if not path.exists():
            yield Problem("checkpoint", str(path), f"is missing, and {name} names it", again)
        elif digest_file(path) != record.details.get("checkpoint_record", digest_file(path)):
            yield Problem("checkpoint", str(path), f"was changed since {name} was written", again)


def checkpoint_problems(folder: Path) -> list[Problem]:
    """What is wrong in one checkpoint folder, wherever it lies: each file by its digest in ``record.json``."""
    path = folder / RECORD
    again = "materialise it again, or copy the folder again"
    try:
        record = json.loads(path.read_bytes())
        listed, key, metrics = dict(record["files"]), str(record["key"]), record.get("metrics")
    except (OSError, ValueError, KeyError, TypeError) as e:
        return [Problem("checkpoint", str(path), f"is missing or cannot be read: {_first(e)}", again)]
    there = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file() and p != path}
    found = [Problem("checkpoint", str(folder / n), "is missing", again) for n in sorted(listed.keys() - there.keys())]
    found += [Problem("checkpoint", str(there[n]), f"is not listed in {RECORD}", "move it away")
              for n in sorted(there.keys() - listed.keys())]
    found += [Problem("checkpoint", str(there[n]), f"is not as {RECORD} says it was published", again)
              for n in sorted(there.keys() & listed.keys()) if digest_file(there[n]) != listed[n]]
    if key.partition(":")[2] != folder.name and (folder.parent.parent.name == "checkpoints"):
        found.append(Problem("checkpoint", str(path), f"says it is {key}", again))
    stored = folder / "metrics.json"
    if stored.exists() and _is_json(stored) and json.loads(stored.read_bytes()) != metrics:
        found.append(Problem("checkpoint", str(path), "gives other metrics than metrics.json", again))
    return found


def _copies(layout: Layout, folder: Path, records: dict[str, Record]) -> Iterator[Problem]:
    """Records and snapshots against the copies that a checkpoint carries."""
    try:
        lineage = Lineage.model_validate_json((folder / LINEAGE).read_bytes(), strict=False)
    except (OSError, ValidationError, ValueError):
        return  # without one, or named already by its digest
    for name, copy in lineage.records.items():
        if copy.number and name in records and records[name] != copy:
            yield Problem("record", str(layout.root / "records" / f"{name}.json"),
                          f"differs from its copy in {folder / LINEAGE}", RESTORE)
    for version, kept in lineage.constitutions.items():
        path = layout.root / "constitutions" / f"{version}.json"
        try:
            now = Constitution.model_validate_json(path.read_bytes(), strict=False)
        except (OSError, ValidationError, ValueError):
            continue  # named already
        if digest(now) != digest(kept) or now != kept:
            yield Problem("snapshot", str(path), f"differs from its copy in {folder / LINEAGE}", RESTORE)


def _calls(layout: Layout, records: dict[str, Record]) -> Iterator[Problem]:
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
            yield Problem("rows", str(layout.root / "rows"), f"{missing.height} calls that {stored} names are gone, "
                          f"first {first}", f"{RESTORE}; without them they are generated anew")


def named_calls(path: Path) -> pl.DataFrame:
    """Row keys of the rows of a table that finished."""
    names = columns(path)
    keys = [n for n in names if n.startswith("row_key")]
    if not keys or "error" not in names:
        return pl.DataFrame(schema={"row_key": pl.String})
    frame = read_parquet(path, [*keys, "error"]).filter(pl.col("error").is_null())
    # Each column by itself: one that is null says nothing of the others.
    each = [frame.select(row_key=pl.col(n).explode() if frame.schema[n] == pl.List else n) for n in keys]
    return pl.concat(each).drop_nulls().filter(pl.col("row_key") != "").unique()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _path_in(problem: str) -> str:
    """The path that a message of ``upkeep.verify`` begins with."""
    return re.split(r": | cannot be | is an? ", problem, maxsplit=1)[0]


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).split("\n", maxsplit=1)[0]
