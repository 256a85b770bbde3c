"""From a checkpoint back to the principles: the records exactly as used, and the rows that were trained on.

Guarantees: an input is the record that was read, never a newer one; a file that is missing or damaged is named in
``problems``, and then no share is given; what a trace says about a record never changes, whatever is made later. A
checkpoint carries its own lineage in two files beside its weights, so it can be traced where nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from cai_assets.assets import CHECKPOINTS, SHAPES
from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.lineage.graph import Graph, graph
from cai_assets.lineage.principles import Influence, influence
from cai_assets.lineage.rollouts import ROLLOUTS
from cai_assets.lineage.rows import FileRows, Rows, UsedRows, batches
from cai_assets.lineage.shapes import Table
from cai_assets.lineage.targets import checkpoint_folder, every_record, find_record, maker
from cai_assets.lineage.training_rows import training_of
from cai_assets.store import folders
from cai_assets.store.canonical import digest_file
from cai_assets.store.files import write_atomic
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import StoreCorrupt, there, write_parquet
from cai_assets.store.published import RECORD, read_about
from cai_assets.store.records import Record, RecordDamaged, Records
from cai_assets.store.row_store import RowStore
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import SnapshotDamaged, Snapshots, UnknownVersion, snapshot_name

LINEAGE, LINEAGE_ROWS = "lineage.json", "lineage_rows.parquet"


class LineageBroken(CaiError):
    """A file that a checkpoint's lineage depends on is missing or was changed."""


class Lineage(BaseModel):
    """Everything that led to one record. ``records``: by id, ``root`` among them; a root that was not recorded yet, as
    in a checkpoint's own folder, is under its key. ``constitutions``: the snapshots, by version. ``models``: what each
    record ran or started from. ``influence`` is None if there are ``problems``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    root: str
    records: Mapping[str, Record]
    constitutions: Mapping[str, Constitution]
    models: Mapping[str, Mapping[str, str]]
    influence: Influence | None
    problems: tuple[str, ...]

    @property
    def top(self) -> Record:
        """The record that was traced."""
        return self.records[self.root]

    def total(self, name: str) -> float:
        """Sum of a number over all records, such as 'gpu_seconds'; rows reused cost in earlier materializations."""
        return float(sum(getattr(r, name) for r in self.records.values()))


@dataclass(frozen=True)
class Traced:
    """A lineage and ``source``: its rows, read on demand."""

    lineage: Lineage
    source: Rows

    def rows(self) -> pl.DataFrame:
        """All rows that were trained on and that these go back to, as rows.MARKED. Raise StoreCorrupt."""
        return pl.concat(batches(self.source))


def trace(layout: Layout, target: str, *, counted: bool = True) -> Traced:
    """Trace a checkpoint folder or key, ``ASSET@VERSION``, ``ASSET`` without a version, or a record id.

    ``ASSET@VERSION`` means its newest record. A checkpoint's own folder is authoritative: its lineage when it was made.
    Raise UnknownTarget, or LineageBroken for a folder whose lineage was changed. ``counted``: as in ``trace_record``.
    """
    folder = checkpoint_folder(layout, target)
    if folder is not None and folders.has(folder, RECORD):
        if folders.has(folder, LINEAGE) or LINEAGE in _files(folder):
            return read_lineage(folder)
        return trace_record(layout, maker(layout, folder), counted=counted)
    return trace_record(layout, find_record(layout, target), counted=counted)


def trace_record(layout: Layout, record: Record, *, counted: bool = True) -> Traced:
    """Trace a record in the data root. Unless ``counted``, its influence is None and its rows are not read."""
    records, problems = _tree(layout, record)
    tables = tables_of(layout, records.values())
    whole, trained = _rows(layout, records, tables, problems, counted)
    constitutions = _constitutions(layout, records.values(), problems)
    models = {name: used for name, r in records.items() if (used := _models(layout, r, problems))}
    store, effect = RowStore(layout), None
    if whole is not None and not problems:
        effect = influence(whole, store, trained, constitutions,
                           {name: r.constitution and round_of(r.constitution).version for name, r in records.items()})
    lineage = Lineage(root=_id(record), records=records, constitutions=constitutions, models=models, influence=effect,
                      problems=tuple(sorted(set(problems))))
    return Traced(lineage, UsedRows(whole, tables, store, trained))


def write_lineage(folder: Path, layout: Layout, record: Record) -> None:
    """Write the lineage of a checkpoint into its folder, before it is published: ``lineage.json`` and its rows.

    ``record``: as it will be written, still without a number; ``digest`` is the checkpoint's key, ``inputs`` what was
    read, and ``details['training_rows']`` names the stored ``training_table``. Raise LineageBroken if anything it
    depends on is missing: a checkpoint that cannot be traced is not published.
    """
    traced = trace_record(layout, record)
    if traced.lineage.problems:
        raise LineageBroken("; ".join(traced.lineage.problems))
    write_parquet(folder / LINEAGE_ROWS, batches(traced.source))
    write_atomic(folder / LINEAGE, to_json(traced.lineage).encode())


def read_lineage(folder: Path) -> Traced:
    """The lineage that a checkpoint folder carries, wherever it is. Raise LineageBroken."""
    listed = _files(folder)
    for name in (LINEAGE, LINEAGE_ROWS):
        path = folder / name
        if not folders.has(folder, name):
            raise LineageBroken(f"{path} is missing: copy the checkpoint again, with every file of its folder")
        if listed.get(name) != digest_file(path):
            raise LineageBroken(f"{path} is not as {RECORD} says it was published: copy the checkpoint again")
    try:
        lineage = parse_lineage(folders.read(folder, LINEAGE) or b"")
    except ValidationError as e:
        raise LineageBroken(f"{folder / LINEAGE} cannot be read: {e}") from None
    return Traced(lineage, FileRows(folder / LINEAGE_ROWS))


def parse_lineage(data: bytes) -> Lineage:
    """A lineage as it was stored. Raise ValidationError."""
    return Lineage.model_validate_json(data, strict=False)


def to_json(lineage: Lineage) -> str:
    """The same text for the same lineage."""
    return lineage.model_dump_json(indent=1)


def row_chain(layout: Layout, target: str) -> pl.DataFrame:
    """The chain of a row (``chain.chain``) over everything ever made here, with the checkpoints it was trained on.

    Raise UnknownRow, or StoreCorrupt for a table that cannot be read.
    """
    records = {r.ref.id: r for r in sorted(every_record(layout), key=lambda r: r.created)}
    tables = [t for t in tables_of(layout, records.values()) if there(t.path)]
    first = {(r.asset, r.digest): name for name, r in reversed(records.items()) if r.asset in CHECKPOINTS}
    trained = {name: training_of(layout, records[name], records) for name in first.values()}
    return UsedRows(None, tables, RowStore(layout), trained, every=True).chain(target)


def tables_of(layout: Layout, records: Iterable[Record]) -> list[Table]:
    """The tables of rows that some records name, with the version they were made for."""
    tables = []
    for r in records:
        version = round_of(r.constitution).version if r.constitution else None
        if r.asset in SHAPES:
            origins = layout.absolute(r.details["origins"]) if "origins" in r.details else None
            tables.append(Table(r.asset, layout.absolute(r.path), version, origins))
        tables += [Table(name, layout.absolute(r.details[name]), version)
                   for name in (ROLLOUTS, "training_rows") if name in r.details]
    return tables


def tree(layout: Layout, record: Record, known: Mapping[str, Record] | None = None) -> dict[str, Record]:
    """A record and everything above it, by id. What is missing above is left out. ``known``: records read already."""
    return _tree(layout, record, known)[0]


def _tree(
    layout: Layout, record: Record, known: Mapping[str, Record] | None = None
) -> tuple[dict[str, Record], list[str]]:
    records, problems = Records(layout), list[str]()
    reached, waiting = {_id(record): record}, list(record.inputs)
    while waiting:
        ref = waiting.pop()
        if ref.id in reached:
            continue
        try:
            above = (known or {}).get(ref.id) or records.get(ref)
        except (FileNotFoundError, RecordDamaged) as e:
            how = "is missing" if isinstance(e, FileNotFoundError) else "cannot be read"
            problems.append(f"{layout.path('records', ref.id)}.json {how}: restore it from a copy of the data root")
            continue
        if above.digest != ref.digest:
            problems.append(f"{layout.path('records', ref.id)}.json names {above.digest}, but {ref.digest} was read "
                            "from it: restore it from a copy of the data root")
        reached[ref.id] = above
        waiting += above.inputs
    return dict(sorted(reached.items())), problems


def _rows(
    layout: Layout, records: Mapping[str, Record], tables: list[Table], problems: list[str], counted: bool
) -> tuple[Graph | None, dict[str, pl.DataFrame]]:
    """The graph of all tables, and training rows by checkpoint; None if a table is missing or cannot be read, or it
    is not to be counted."""
    for table in tables:
        if not there(table.path):
            problems.append(f"{table.path} is missing: materialize {table.asset} again, or restore it from a copy")
    try:
        if not all(there(t.path) for t in tables):
            return None, {}
        trained = {name: training_of(layout, r, records) for name, r in records.items() if r.asset in CHECKPOINTS}
        return graph(tables) if counted else None, trained
    except StoreCorrupt as e:
        problems.append(str(e))
        return None, {}


def _constitutions(layout: Layout, records: Iterable[Record], problems: list[str]) -> dict[str, Constitution]:
    constitutions: dict[str, Constitution] = {}
    for version in sorted({round_of(r.constitution).version for r in records if r.constitution}):
        try:
            constitutions[version] = Snapshots(layout).load(version)
        except (UnknownVersion, SnapshotDamaged) as e:
            problems.append(f"{layout.path(snapshot_name(version))} is missing or damaged: restore it from a "
                            f"copy ({type(e).__name__})")
    return constitutions


def _models(layout: Layout, record: Record, problems: list[str]) -> dict[str, str]:
    """Roles and the models that played them, and what a checkpoint was trained from."""
    roles = record.settings.get("models") or {}
    models = {role: model["source"] for role, model in sorted(roles.items()) if model}
    if record.asset not in CHECKPOINTS:
        return models
    if not record.number:  # not published yet
        return models | {k: str(record.details[k]) for k in ("base_name", "base") if k in record.details}
    folder = layout.absolute(record.path)
    try:
        about = read_about(folder)
        return models | {"base_name": str(about["base_name"]), "base": str(about["base"]["weights"])}
    except (OSError, ValueError, KeyError):
        problems.append(f"{folder / RECORD} is missing or damaged: materialize {record.asset} of {record.partition} "
                        "again")
        return models


def _id(record: Record) -> str:
    return record.ref.id if record.number else record.digest


def _files(folder: Path) -> dict[str, str]:
    try:
        files: dict[str, str] = read_about(folder)["files"]
    except (OSError, ValueError, KeyError) as e:
        raise LineageBroken(f"{folder / RECORD} cannot be read ({e}): copy the checkpoint again") from None
    return files
