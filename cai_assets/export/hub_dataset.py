"""The data sets of one constitution version, as a folder for the Hugging Face Hub.

Guarantees: rows are those of the newest records, with everything above taken as those records used it; equal tables
give equal bytes; the card says what was left out. Nothing here reaches the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.errors import CaiError
from cai_assets.export.dataset import Config, DataExport, ExportKind
from cai_assets.export.dataset_card import dataset_card
from cai_assets.export.extra import ExportError
from cai_assets.export.folder import file_name, fresh
from cai_assets.export.rows import cai_rows, preference_rows, sft_rows
from cai_assets.export.scrub import scrub_record
from cai_assets.lineage.targets import nearest
from cai_assets.lineage.trace import tree
from cai_assets.store.files import write_atomic
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, RecordMissing, Records
from cai_assets.versions.parents import parent_of
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Snapshots

ROWS_A_FILE = 500_000


def export_dataset(
    layout: Layout, version: str, out: Path, *, kind: ExportKind = "all", held_out: float, license_: str | None = None,
    force: bool = False,
) -> DataExport:
    """Write the folder ``out``: a card, and Parquet files ``data/CONFIG/SPLIT-NNNNN-of-NNNNN.parquet``.

    ``held_out``: the share of preference prompts in the split 'test' if no reward model of the version has its own.
    ``license_``: the Hub's identifier of a license; without one the card says 'unknown'. Raise ExportError.
    """
    export = collect(layout, version, kind=kind, held_out=held_out, license_=license_)
    with fresh(out, force=force, private=(layout.path(), Path.home())) as folder:
        for config, splits in export.splits.items():
            for split, frame in splits.items():
                write_split(folder / "data" / file_name(config), split, frame)
        write_atomic(folder / "README.md", dataset_card(export).encode())
    return export


def collect(
    layout: Layout, version: str, *, kind: ExportKind, held_out: float, license_: str | None = None
) -> DataExport:
    """The rows and records of an export. Raise ExportError if something is missing, and say what to materialize."""
    wanted: Sequence[Config] = get_args(Config) if kind == "all" else (kind,)
    try:
        snapshots = Snapshots(layout)
        own = snapshots.load(version)
        export = DataExport(version, own, license_, parent_of(own, snapshots))
        for config in wanted:
            _add(export, Records(layout), layout, config, held_out)
    except CaiError as e:
        raise ExportError(str(e)) from None
    return export


def _add(export: DataExport, records: Records, layout: Layout, config: Config, held_out: float) -> None:
    source = records.latest("preference_pairs" if config == "preferences" else "sl_dataset", export.version)
    above = tree(layout, source)
    export.records.update({name: scrub_record(r) for name, r in above.items()})
    export.sources[config] = source
    if config == "preferences":
        _preferences(export, layout, source, held_out)
    elif config == "sft":
        export.splits[config] = {"train": sft_rows(records.table(source), export.version)}
        export.left_out[config] = {}
    else:
        _chains(export, records, source, above)


def _preferences(export: DataExport, layout: Layout, source: Record, held_out: float) -> None:
    labeled = Records(layout).table(source)
    share = _held_out(layout, export.version, source, held_out)
    rows = preference_rows(labeled, held_out=share, version=export.version,
                           round_number=round_of(export.version).number)
    test = rows.filter("held_out").drop("held_out")
    export.splits["preferences"] = {"train": rows.filter(~pl.col("held_out")).drop("held_out"),
                                    **({"test": test} if test.height else {})}
    ungraded = labeled.filter(pl.col("p_a").is_null()).height
    export.left_out["preferences"] = {"not graded (two equal or missing responses, or no readable answer)": ungraded,
                                      "exactly balanced": labeled.height - ungraded - rows.height}


def _held_out(layout: Layout, version: str, source: Record, otherwise: float) -> float:
    """The share that the version's newest reward model held out, if it was trained on these labels."""
    try:
        record = Records(layout).latest("reward_model", version)
    except RecordMissing:
        return otherwise
    labels = nearest(record, source.asset, tree(layout, record))
    used = labels is not None and labels.digest == source.digest
    return float(record.settings.get("reward", {}).get("held_out", otherwise)) if used else otherwise


def _chains(export: DataExport, records: Records, source: Record, above: dict[str, Record]) -> None:
    revisions = _above(source, "revisions", above)
    read = {name: records.table(_above(revisions, name, above)) for name in ("starting_responses", "critiques")}
    table = records.table(revisions)
    rows = cai_rows(read["starting_responses"], read["critiques"], table, export.constitution, export.version)
    export.splits["cai"] = {"train": rows}
    stopped = table.filter(pl.col("revision").is_null(), pl.col("stopped").is_not_null()).height
    export.left_out["cai"] = {"nothing left to criticize": stopped, "failed": table.height - rows.height - stopped}


def _above(record: Record, asset: str, above: Mapping[str, Record]) -> Record:
    nearest_record = nearest(record, asset, above)
    if nearest_record:
        return nearest_record
    raise ExportError(f"{record.ref.id} has no {asset} above it that can be read: run 'cai verify', and materialize "
                      f"{asset} again")


def write_split(folder: Path, split: str, frame: pl.DataFrame) -> None:
    """Parquet files under the Hub's names. Strings and lists use the plain Arrow types, which every reader knows."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = max(1, math.ceil(frame.height / ROWS_A_FILE))
    for i in range(parts):
        piece = frame.slice(i * ROWS_A_FILE, ROWS_A_FILE).to_arrow()
        plain = piece.cast(pa.schema([f.with_type(_plain(f.type)) for f in piece.schema]))
        pq.write_table(plain, folder / f"{split}-{i:05d}-of-{parts:05d}.parquet", compression="zstd",
                       write_page_checksum=True)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_plain(f.type)) for f in kind])
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind
