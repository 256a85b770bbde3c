"""Records against each other, and the snapshots of constitutions with the lists beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.model import Constitution
from cai_assets.lineage.verify.problem import RESTORE, Problem, first
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Journal

ORDER = "constitutions-order.json"


def read_records(layout: Layout, found: dict[str, Record]) -> Iterator[Problem]:
    """Load every record into ``found``; then check what they say of each other."""
    for path in sorted(layout.folder("records").glob("*/*/[0-9]*.json")):
        try:
            record = Record.model_validate_json(path.read_bytes())
        except (ValidationError, ValueError) as e:
            yield Problem("record", str(path), f"cannot be read: {first(e)}", RESTORE)
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


def snapshots(layout: Layout) -> Iterator[Problem]:
    """Snapshots by the digest in their name, and the lists beside them."""
    paths = {p.stem: p for p in sorted(layout.folder("constitutions").glob("*.json"))}
    for path in paths.values():
        try:
            constitution = Constitution.model_validate_json(path.read_bytes(), strict=False)
        except (ValidationError, ValueError) as e:
            yield Problem("snapshot", str(path), f"cannot be read: {first(e)}", RESTORE)
            continue
        if partition_key(constitution) != path.stem:
            yield Problem("snapshot", str(path), f"has the content of {partition_key(constitution)}", RESTORE)
    for name in (ORDER, "constitutions-archived.json", "constitutions-derived.json"):
        yield from _list(layout, name, paths)


def _list(layout: Layout, name: str, there: Mapping[str, Path]) -> Iterator[Problem]:
    """A list beside the snapshots: what it names must be there."""
    path = layout.root / name
    try:
        entries = Journal(path).entries()
        keys = entries if name == ORDER else [k for e in entries for k in (e["key"], e.get("version", e["key"]))]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        yield Problem("snapshot", str(path), f"cannot be read: {first(e)}", RESTORE)
        return
    if name == ORDER and there and not path.exists():
        yield Problem("snapshot", str(path), f"is missing, and there are {len(there)} snapshots",
                      f"{RESTORE}; without it they are listed by the time of their files")
    versions = {round_of(str(key)).version for key in keys}
    for version in sorted(versions - there.keys()):
        yield Problem("snapshot", str(path), f"names {version}, of which there is no snapshot",
                      f"if that version never was, {RESTORE}")
        yield Problem("snapshot", str(layout.root / "constitutions" / f"{version}.json"),
                      f"is missing, and {name} names it", RESTORE)
