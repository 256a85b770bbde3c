"""Checkpoint folders: each file by its digest, and the copies that they carry of records and snapshots."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from cai_assets.assets import CHECKPOINTS
from cai_assets.constitution.digest import digest
from cai_assets.lineage.trace import LINEAGE, parse_lineage
from cai_assets.lineage.verify.credentials import credentials
from cai_assets.lineage.verify.problem import RESTORE, Problem, first, is_json
from cai_assets.store import folders
from cai_assets.store.canonical import digest_file
from cai_assets.store.checkpoints import Checkpoints
from cai_assets.store.layout import Layout
from cai_assets.store.published import RECORD, read_about, seal
from cai_assets.store.records import Record
from cai_assets.store.sums import SUMS, files, read_sums
from cai_assets.versions.snapshots import parse_snapshot, snapshot_name


def checkpoints(layout: Layout, records: Mapping[str, Record]) -> Iterator[Problem]:
    for folder in Checkpoints(layout).every():
        yield from checkpoint_problems(folder)
        yield from _copies(layout, folder, records)
    # A checkpoint that was damaged or lost is made again under its key: what the earlier records say of it is past.
    newest = {r.digest: r for r in sorted(records.values(), key=lambda r: r.created)}
    for name, record in records.items():
        if record.asset not in CHECKPOINTS:
            continue
        folder = Checkpoints(layout).path(record.asset, record.digest)
        path = folder / RECORD
        again = f"materialize {record.asset} of {record.partition or 'all'} again, or {RESTORE}"
        if not folders.has(folder, RECORD):
            yield Problem("checkpoint", str(path), f"is missing, and {name} names it", again)
        elif record is newest[record.digest] and digest_file(path) != record.details.get("checkpoint_record",
                                                                                         digest_file(path)):
            yield Problem("checkpoint", str(path), f"was changed since {name} was written", again)


def checkpoint_problems(folder: Path) -> list[Problem]:
    """What is wrong in one checkpoint folder, wherever it is: each file by its digest in ``record.json``."""
    path = folder / RECORD
    again = "materialize it again, or copy the folder again"
    try:
        record = read_about(folder)
        listed, key, metrics = dict(record["files"]), str(record["key"]), record.get("metrics")
        sealed = record.get("seal", seal(record))
    except (OSError, ValueError, KeyError, TypeError) as e:
        return [Problem("checkpoint", str(path), f"is missing or cannot be read: {first(e)}", again)]
    problems = [p for p in _listed(folder, listed, RECORD, again) if p.path != str(path)]
    if sealed != seal(record):
        problems.append(Problem("checkpoint", str(path), "does not say what was written", again))
    if key.partition(":")[2] != folder.name and (folder.parent.parent.name == "checkpoints"):
        problems.append(Problem("checkpoint", str(path), f"says it is {key}", again))
    stored = folders.read(folder, "metrics.json")
    if stored is not None and is_json(stored) and json.loads(stored) != metrics:
        problems.append(Problem("checkpoint", str(path), "gives other metrics than metrics.json", again))
    return problems


def folder_problems(folder: Path) -> list[Problem]:
    """What is wrong in a folder, wherever it is: a checkpoint, or an export that lists its files in SHA256SUMS."""
    if folders.has(folder, RECORD) or not folders.has(folder, SUMS):
        return checkpoint_problems(folder)
    again = "export it again, or copy the folder again"
    try:
        return list(_listed(folder, read_sums(folder), SUMS, again))
    except (OSError, ValueError) as e:
        return [Problem("export", str(folder / SUMS), f"cannot be read: {first(e)}", again)]


def _listed(folder: Path, listed: Mapping[str, str], by: str, again: str) -> Iterator[Problem]:
    """Each file of a folder against the digest that ``by`` lists."""
    kind, there = "checkpoint" if by == RECORD else "export", files(folder)
    for name in sorted({*listed, *there}):
        if name not in there:
            yield Problem(kind, str(folder / name), "is missing", again)
        elif name not in listed:
            yield Problem(kind, str(there[name]), f"is not listed in {by}", "move it away")
        elif digest_file(there[name]) != listed[name]:
            yield Problem(kind, str(there[name]), f"is not as {by} says it was published", again)


def _copies(layout: Layout, folder: Path, records: Mapping[str, Record]) -> Iterator[Problem]:
    """Records and snapshots against the copies that a checkpoint carries."""
    try:
        lineage = parse_lineage(folders.read(folder, LINEAGE) or b"")
    except (OSError, ValueError):
        return  # without one, or named already by its digest
    for name, copy in lineage.records.items():
        yield from credentials(str(folder / LINEAGE), copy)
        if copy.number and name in records and records[name] != copy:
            yield Problem("record", str(layout.path("records", f"{name}.json")),
                          f"differs from its copy in {folder / LINEAGE}", RESTORE)
    for version, kept in lineage.constitutions.items():
        path = layout.path(snapshot_name(version))
        try:
            now = parse_snapshot(layout.storage.get(snapshot_name(version)))
        except (OSError, ValueError):
            continue  # named already
        if digest(now) != digest(kept) or now != kept:
            yield Problem("snapshot", str(path), f"differs from its copy in {folder / LINEAGE}", RESTORE)
