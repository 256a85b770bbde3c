"""The proof that an incremental history is worth a rebuild: a version made anew in an empty root has the same keys.

Answers come from the store by their keys, and checkpoints by theirs, so that nothing is asked or trained: a row or a
checkpoint whose key is not there is a difference. The scripted engine answers anew; nothing is trained there either,
because a checkpoint's key says all that decides it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from cai_assets.assets import CHECKPOINTS, EVERY, partition_of
from cai_assets.defs.execute import materialize
from cai_assets.defs.outcome import failures
from cai_assets.defs.resources import replaying
from cai_assets.engines.pool import resolve_backend
from cai_assets.pipeline.project import Project
from cai_assets.settings import load_settings
from cai_assets.store.garbage import table_keys
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, RecordMissing, Records
from cai_assets.versions.archive import ARCHIVED
from cai_assets.versions.derived import DERIVED
from cai_assets.versions.rounds import Round, round_of
from cai_assets.versions.snapshots import ORDER, VERSIONS

LINKED = ("checkpoints", "rows")
COMPARED = tuple(a.name for a in EVERY if a.kind != "view")  # a view also says what else is in the store


class Rebuilt(NamedTuple):
    """``assets`` were compared, which name ``row_keys`` and ``checkpoints``. ``anew``: the answers, too, were made
    anew. ``difference``: the first, in words; '' if there is none."""

    version: str
    assets: int
    row_keys: int
    checkpoints: int
    anew: bool
    difference: str


def rebuild(version: str, overrides: Mapping[str, Any]) -> Rebuilt:
    """Make a version anew beside the data root and compare. Raise RecordMissing if it was never made."""
    project = Project.open(overrides)
    project.snapshots.load(version)
    made = [asset for asset in COMPARED if _record(project.records, asset, version)]
    if not made:
        raise RecordMissing(f"{version} is not materialized yet: cai materialize {version}")
    anew = resolve_backend(project.settings.models.generator) == "scripted"
    with _empty_root(project.layout, rows=not anew) as root:
        settings = load_settings({**overrides, "data_root": str(root)})
        why = _make(version, made, {**overrides, "data_root": str(root)}, anew=anew)
        fresh = Project(settings)
        keys, checkpoints = 0, 0
        for asset in made:
            there = project.records.latest(asset, partition_of(asset, version))
            here = _record(fresh.records, asset, version)
            if here is None:
                return Rebuilt(version, len(made), keys, checkpoints, anew, why or f"{asset} was not made")
            if difference := _difference(project.layout, there, fresh.layout, here):
                return Rebuilt(version, len(made), keys, checkpoints, anew, difference)
            keys += len(_keys(fresh.layout, here))
            checkpoints += asset in CHECKPOINTS
    return Rebuilt(version, len(made), keys, checkpoints, anew, "")


def _make(version: str, assets: list[str], overrides: Mapping[str, Any], *, anew: bool) -> str:
    """Materialize it, after the rounds before it; return why that ended early."""
    with dg.DagsterInstance.ephemeral() as instance, replaying(asks=anew):
        for one in _rounds(version):
            instance.add_dynamic_partitions(VERSIONS, [one.key])
            result = materialize(instance, one.key, selection=assets if one.key == version else (), overrides=overrides)
            if not result.success:
                return next(failures(result), f"{one.key} could not be made anew")
    return ""


def _rounds(version: str) -> list[Round]:
    last = round_of(version)
    return [Round(last.version, number) for number in range(1, last.number + 1)]


@contextmanager
def _empty_root(layout: Layout, *, rows: bool) -> Iterator[Path]:
    """A root beside the data root, with its constitutions, models and checkpoints, without its records; ``rows``: with
    its rows."""
    source = layout.path()
    for name in ("constitutions", ORDER, DERIVED, ARCHIVED, *(LINKED if rows else LINKED[:1])):
        layout.absolute(name)  # has it on this machine
    with tempfile.TemporaryDirectory(prefix=".cai-rebuild-", dir=source.parent) as folder:
        root = Path(folder)
        for path in source.glob("constitutions*"):
            shutil.copytree(path, root / path.name) if path.is_dir() else shutil.copy(path, root / path.name)
        if (source / "models").exists():
            (root / "models").symlink_to(source / "models")
        for name in LINKED if rows else LINKED[:1]:
            if (source / name).exists():
                shutil.copytree(source / name, root / name, copy_function=_link, symlinks=True)
        yield root


def _link(source: str, target: str) -> None:
    """A file that is never changed in place need not be copied."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _record(records: Records, asset: str, version: str) -> Record | None:
    try:
        return records.latest(asset, partition_of(asset, version))
    except RecordMissing:
        return None


def _difference(old: Layout, there: Record, new: Layout, here: Record) -> str:
    before, now = _keys(old, there), _keys(new, here)
    if before != now:
        only = sorted(before - now) or sorted(now - before)
        where = "in the store alone" if before - now else "in the rebuild alone"
        return f"{there.ref.id}: {len(before ^ now)} row keys differ; the first, {only[0]}, is {where}"
    if there.digest != here.digest:
        return f"{there.ref.id}: {there.digest} in the store, {here.digest} in the rebuild, from the same row keys"
    return ""


def _keys(layout: Layout, record: Record) -> set[str]:
    """Row keys that a record's tables name."""
    tables = (layout.absolute(path) for path in record.named_tables())
    return {key for table in tables for column in table_keys(table) for key in column} - {""}
