"""From a checkpoint back to the principles: the records exactly as used, and the rows that were trained on.

Guarantees: an input is the record that was read, never a newer one; a file that is missing or damaged is named in
``problems``, and then no share is given; what a trace says of a record never changes, whatever is made later. A
checkpoint carries its own lineage in two files beside its weights, so it can be traced where nothing else is.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from cai_assets.constitution.model import Constitution
from cai_assets.lineage.canonical import digest_file
from cai_assets.lineage.chain import (
    SHAPES,
    Graph,
    Table,
    chain,
    gather,
    graph,
    mark,
    prompts_of,
    reach,
    training_rows,
)
from cai_assets.lineage.checkpoints import RECORD
from cai_assets.lineage.layout import Layout, UnsafeName, write_atomic
from cai_assets.lineage.parquet import StoreCorrupt, parquet_bytes, read_parquet
from cai_assets.lineage.principles import Influence, influence
from cai_assets.lineage.records import UNPARTITIONED, WITHOUT_VERSION, Record, RecordMissing, Records, Ref
from cai_assets.lineage.rounds import round_of
from cai_assets.lineage.snapshots import Snapshots, UnknownVersion
from cai_assets.lineage.store import RowStore

LINEAGE, LINEAGE_ROWS = "lineage.json", "lineage_rows.parquet"
CHECKPOINTS = ("sft_baseline", "sl_policy", "reward_model", "rl_policy")
KEY = re.compile(r"(k1:)?[0-9a-f]{8,32}")
RECORD_ID = re.compile(r"(?P<asset>[a-z_]+)/(?P<partition>[a-z0-9-]+)/(?P<number>\d{6})")


class UnknownTarget(LookupError):
    """Nothing can be traced under that name. The message says what is near it, or what is accepted."""


class LineageBroken(RuntimeError):
    """A file that a checkpoint's lineage stands on is missing or not as it was written."""


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
        """Sum of a number over all records, such as 'gpu_seconds'; rows reused cost in earlier materialisations."""
        return float(sum(getattr(r, name) for r in self.records.values()))


@dataclass(frozen=True)
class Traced:
    """A lineage, and its rows when they are asked for: ROWS, ``characters``, ``tokens``, ``trained_in``,
    ``held_out_in``. Only rows that training rows go back to are among them."""

    lineage: Lineage
    rows: Callable[[], pl.DataFrame]


def trace(layout: Layout, target: str) -> Traced:
    """Trace a checkpoint folder or key, ``ASSET@VERSION``, ``ASSET`` without a version, or a record id.

    Of ``ASSET@VERSION`` the newest record. A checkpoint's own folder speaks for it: the lineage of the day it was made.
    Raise UnknownTarget, or LineageBroken for a folder whose lineage was changed.
    """
    folder = _folder(layout, target)
    if folder is not None and (folder / RECORD).is_file():
        if (folder / LINEAGE).exists() or LINEAGE in _files(folder):
            return read_lineage(folder)
        return trace_record(layout, _maker(layout, folder))
    return trace_record(layout, find_record(layout, target))


def trace_record(layout: Layout, record: Record) -> Traced:
    """Trace a record with the data root at hand."""
    records, problems = _tree(layout, record)
    tables = tables_of(layout, records.values())
    whole, trained = _rows(layout, records, tables, problems)
    constitutions = _constitutions(layout, records.values(), problems)
    models = {name: found for name, r in records.items() if (found := _models(layout, r, problems))}
    made = None if problems or whole is None else influence(whole, trained, constitutions)
    lineage = Lineage(root=_id(record), records=records, constitutions=constitutions, models=models, influence=made,
                      problems=tuple(sorted(set(problems))))
    return Traced(lineage, lambda: _used(graph(gather(tables), RowStore(layout)), trained))


def write_lineage(folder: Path, layout: Layout, record: Record) -> None:
    """Write the lineage of a checkpoint into its folder, before it is published: ``lineage.json`` and its rows.

    ``record``: as it will be written, still without a number; ``digest`` is the checkpoint's key, ``inputs`` what was
    read, and ``details['training_rows']`` names the stored ``chain.training_table``. Raise LineageBroken if anything it
    stands on is missing: a checkpoint that cannot be traced is not published.
    """
    traced = trace_record(layout, record)
    if traced.lineage.problems:
        raise LineageBroken("; ".join(traced.lineage.problems))
    write_atomic(folder / LINEAGE_ROWS, parquet_bytes(traced.rows()))
    write_atomic(folder / LINEAGE, to_json(traced.lineage).encode())


def read_lineage(folder: Path) -> Traced:
    """The lineage that a checkpoint folder carries, wherever it lies. Raise LineageBroken."""
    listed = _files(folder)
    for name in (LINEAGE, LINEAGE_ROWS):
        path = folder / name
        if not path.is_file():
            raise LineageBroken(f"{path} is missing: copy the checkpoint again, with every file of its folder")
        if listed.get(name) != digest_file(path):
            raise LineageBroken(f"{path} is not as {RECORD} says it was published: copy the checkpoint again")
    try:
        lineage = Lineage.model_validate_json((folder / LINEAGE).read_bytes(), strict=False)
    except ValidationError as e:
        raise LineageBroken(f"{folder / LINEAGE} cannot be read: {e}") from None
    return Traced(lineage, lambda: read_parquet(folder / LINEAGE_ROWS))


def to_json(lineage: Lineage) -> str:
    """The same text for the same lineage."""
    return lineage.model_dump_json(indent=1)


def find_record(layout: Layout, target: str) -> Record:
    """The record that a target names. Raise UnknownTarget with what is near."""
    records = Records(layout)
    exact = RECORD_ID.fullmatch(target)
    asset, _, partition = (exact["asset"], "", exact["partition"]) if exact else target.partition("@")
    try:
        where = None if asset in WITHOUT_VERSION or partition == UNPARTITIONED else partition
        if not (layout.root / "records" / asset / (where or UNPARTITIONED)).is_dir():
            raise RecordMissing(asset)
        if not exact:
            return records.latest(asset, where)
        return records.get(Ref(asset=asset, partition=where, number=int(exact["number"]), digest=""))
    except (RecordMissing, UnsafeName, FileNotFoundError):
        raise UnknownTarget(_unknown(layout, target)) from None


def row_chain(layout: Layout, target: str) -> pl.DataFrame:
    """The chain of a row (``chain.chain``) over everything ever made here, with the checkpoints it was trained on.

    Raise UnknownRow, or StoreCorrupt for a table that cannot be read.
    """
    records = {r.ref.id: r for r in sorted(every_record(layout), key=lambda r: r.created)}
    tables = [t for t in tables_of(layout, records.values()) if t.path.is_file()]
    prompts = prompts_of(tables, target)
    first = {(r.asset, r.digest): name for name, r in reversed(records.items()) if r.asset in CHECKPOINTS}
    trained = {name: training_of(layout, records[name], records) for name in first.values()}
    mine = {name: frame.filter(pl.col("prompt_id").is_in(prompts)) for name, frame in trained.items()}
    return chain(mark(graph(gather(tables, prompts), RowStore(layout)), mine), target)


def every_record(layout: Layout, assets: tuple[str, ...] | None = None) -> Iterator[Record]:
    """All records, of all assets or some, in a fixed order."""
    records = Records(layout)
    for folder in sorted((layout.root / "records").glob("*/")):
        if assets is None or folder.name in assets:
            yield from records.every(folder.name)


def tables_of(layout: Layout, records: Iterable[Record]) -> list[Table]:
    """The tables of rows that some records name, with the version they were made for."""
    found = []
    for r in records:
        version = round_of(r.constitution).version if r.constitution else None
        if r.asset in SHAPES:
            origins = layout.absolute(r.details["origins"]) if "origins" in r.details else None
            found.append(Table(r.asset, layout.absolute(r.path), version, origins))
        if "training_rows" in r.details:
            found.append(Table("training_rows", layout.absolute(r.details["training_rows"]), version))
    return found


def training_of(layout: Layout, record: Record, inputs: Mapping[str, Record]) -> pl.DataFrame:
    """The rows one checkpoint was trained on, as chain.TRAINED. ``inputs``: the records it read, by id."""
    tables = {r.asset: layout.absolute(r.path) for ref in record.inputs if (r := inputs.get(ref.id))}
    if "training_rows" in record.details:
        tables["training_rows"] = layout.absolute(record.details["training_rows"])
    return training_rows(record.asset, tables)


def tree(layout: Layout, record: Record) -> dict[str, Record]:
    """A record and everything above it, by id. What is missing above is left out."""
    return _tree(layout, record)[0]


def _tree(layout: Layout, record: Record) -> tuple[dict[str, Record], list[str]]:
    records, problems = Records(layout), list[str]()
    found, waiting = {_id(record): record}, list(record.inputs)
    while waiting:
        ref = waiting.pop()
        if ref.id in found:
            continue
        try:
            above = records.get(ref)
        except (FileNotFoundError, ValidationError) as e:
            how = "is missing" if isinstance(e, FileNotFoundError) else "cannot be read"
            problems.append(f"{layout.root / 'records' / ref.id}.json {how}: restore it from a copy of the data root")
            continue
        if above.digest != ref.digest:
            problems.append(f"{layout.root / 'records' / ref.id}.json names {above.digest}, but {ref.digest} was read "
                            "from it: restore it from a copy of the data root")
        found[ref.id] = above
        waiting += above.inputs
    return dict(sorted(found.items())), problems


def _rows(
    layout: Layout, records: Mapping[str, Record], tables: list[Table], problems: list[str]
) -> tuple[Graph | None, dict[str, pl.DataFrame]]:
    """Rows of every table, without their texts, and training rows by checkpoint; None if a table is missing."""
    for table in tables:
        if not table.path.is_file():
            problems.append(f"{table.path} is missing: materialise {table.asset} again, or restore it from a copy")
    try:
        if not all(t.path.is_file() for t in tables):
            return None, {}
        trained = {name: training_of(layout, r, records) for name, r in records.items() if r.asset in CHECKPOINTS}
        return graph(gather(tables, texts=False), RowStore(layout)), trained
    except StoreCorrupt as e:
        problems.append(str(e))
        return None, {}


def _used(found: Graph, trained: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    placed = [found.places(f)["place"] for f in trained.values()]
    whole = reach(pl.concat([pl.Series("place", [], dtype=pl.UInt32), *placed]), found.edges, up=True)
    return mark(found, trained)[whole]


def _constitutions(layout: Layout, records: Iterable[Record], problems: list[str]) -> dict[str, Constitution]:
    found: dict[str, Constitution] = {}
    for version in sorted({round_of(r.constitution).version for r in records if r.constitution}):
        try:
            found[version] = Snapshots(layout).load(version)
        except (UnknownVersion, ValidationError) as e:
            problems.append(f"{layout.root / 'constitutions' / version}.json is missing or damaged: restore it from a "
                            f"copy ({type(e).__name__})")
    return found


def _models(layout: Layout, record: Record, problems: list[str]) -> dict[str, str]:
    """Roles and the models that played them, and what a checkpoint was trained from."""
    roles = record.settings.get("models") or {}
    found = {role: model["source"] for role, model in sorted(roles.items()) if model}
    if record.asset not in CHECKPOINTS:
        return found
    if not record.number:  # not published yet
        return found | {k: str(record.details[k]) for k in ("base_name", "base") if k in record.details}
    path = layout.absolute(record.path) / RECORD
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return found | {"base_name": str(about["base_name"]), "base": str(about["base"]["weights"])}
    except (OSError, ValueError, KeyError):
        problems.append(f"{path} is missing or damaged: materialise {record.asset} of {record.partition} again")
        return found


def _id(record: Record) -> str:
    return record.ref.id if record.number else record.digest


def _files(folder: Path) -> dict[str, str]:
    try:
        files: dict[str, str] = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as e:
        raise LineageBroken(f"{folder / RECORD} cannot be read ({e}): copy the checkpoint again") from None
    return files


def _folder(layout: Layout, target: str) -> Path | None:
    """The folder of a checkpoint named by path, key, or the start of a key."""
    if Path(target).is_dir():
        return Path(target)
    if not KEY.fullmatch(target):
        return None
    found = sorted((layout.root / "checkpoints").glob(f"*/{target.removeprefix('k1:')}*/"))
    if len(found) > 1:
        raise UnknownTarget(f"{target} is the start of {len(found)} keys: " + ", ".join(p.name for p in found))
    return found[0] if found else None


def _maker(layout: Layout, folder: Path) -> Record:
    """The first record that names a checkpoint made before folders carried their lineage."""
    key = json.loads((folder / RECORD).read_text(encoding="utf-8")).get("key")
    found = [r for r in every_record(layout, CHECKPOINTS) if r.digest == key]
    if not found:
        raise UnknownTarget(f"{folder} has no {LINEAGE} and no record here names its key {key}: trace it where it was "
                            "made (set CAI_DATA_ROOT)")
    return min(found, key=lambda r: (r.details.get("reused_checkpoint", False), r.created))


def _unknown(layout: Layout, target: str) -> str:
    known = sorted({f"{r.asset}@{r.partition}" if r.partition else r.asset for r in every_record(layout)})
    near = difflib.get_close_matches(target, known, n=3, cutoff=0.5) or [k for k in known if k in CHECKPOINTS or
                                                                        k.split("@")[0] in CHECKPOINTS][-3:]
    hint = f"Did you mean {', '.join(near)}?" if near else "Nothing has been materialised yet."
    return (f"cannot trace {target!r}: give a checkpoint's folder or key, ASSET@VERSION, a record id such as "
            f"sl_policy/VERSION/000001, or a row. {hint}")
