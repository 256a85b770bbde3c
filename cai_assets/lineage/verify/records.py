"""Records against each other, and the snapshots of constitutions with the lists beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath

from cai_assets.constitution.digest import partition_key
from cai_assets.lineage.verify.credentials import credentials
from cai_assets.lineage.verify.problem import RESTORE, Problem, first
from cai_assets.store.journal import Journal
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import FOLDER, ORDER, parse_snapshot, snapshot_name


def read_records(layout: Layout, loaded: dict[str, Record]) -> Iterator[Problem]:
    """Load every record into ``loaded``; then check what they say about each other."""
    for stored in Records(layout).names():
        path = layout.path(stored)
        try:
            record = Record.model_validate_json(layout.storage.get(stored))
        except ValueError as e:
            yield Problem("record", str(path), f"cannot be read: {first(e)}", RESTORE)
            continue
        if f"records/{record.ref.id}.json" != stored:
            yield Problem("record", str(path), f"says it is {record.ref.id}", RESTORE)
            continue
        if not record.intact:
            yield Problem("record", str(path), "does not say what was written", RESTORE)
            continue
        loaded[record.ref.id] = record
    for name, record in loaded.items():
        yield from _said(layout, name, record, loaded)


def _said(layout: Layout, name: str, record: Record, loaded: dict[str, Record]) -> Iterator[Problem]:
    path = str(layout.path("records", f"{name}.json"))
    yield from credentials(path, record)
    for ref in record.inputs:
        above = layout.path("records", f"{ref.id}.json")
        if not Records(layout).has(ref):
            yield Problem("record", str(above), f"is missing, and {name} was made from it", RESTORE)
        elif ref.id in loaded and loaded[ref.id].digest != ref.digest:
            yield Problem("record", str(above), f"names {loaded[ref.id].digest}, and {name} read {ref.digest} from it",
                          f"{RESTORE}; or {path}, if that one was changed")
    if record.constitution:
        snapshot = snapshot_name(record.constitution)
        if not layout.has(snapshot):
            yield Problem("snapshot", str(layout.path(snapshot)), f"is missing, and {name} was made by it", RESTORE)


def snapshots(layout: Layout) -> Iterator[Problem]:
    """Snapshots by the digest in their name, and the lists beside them."""
    there = {PurePath(e.name).stem: e.name for e in layout.storage.list(FOLDER) if e.name.endswith(".json")}
    for key, stored in there.items():
        path = layout.path(stored)
        try:
            constitution = parse_snapshot(layout.storage.get(stored))
        except ValueError as e:
            yield Problem("snapshot", str(path), f"cannot be read: {first(e)}", RESTORE)
            continue
        if partition_key(constitution) != key:
            yield Problem("snapshot", str(path), f"has the content of {partition_key(constitution)}", RESTORE)
    for name in (ORDER, "constitutions-archived.json", "constitutions-derived.json"):
        yield from _list(layout, name, there)


def _list(layout: Layout, name: str, there: Mapping[str, str]) -> Iterator[Problem]:
    """A list beside the snapshots: what it names must be there."""
    path = layout.path(name)
    try:
        entries = Journal(layout, name).entries()
        keys = entries if name == ORDER else [k for e in entries for k in (e["key"], e.get("version", e["key"]))]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        yield Problem("snapshot", str(path), f"cannot be read: {first(e)}", RESTORE)
        return
    if name == ORDER and there and not layout.has(name):
        yield Problem("snapshot", str(path), f"is missing, and there are {len(there)} snapshots",
                      f"{RESTORE}; without it they are listed by the time of their files")
    versions = {round_of(str(key)).version for key in keys}
    for version in sorted(versions - there.keys()):
        yield Problem("snapshot", str(path), f"names {version}, of which there is no snapshot",
                      f"if that version never was, {RESTORE}")
        yield Problem("snapshot", str(layout.path(FOLDER, f"{version}.json")),
                      f"is missing, and {name} names it", RESTORE)
