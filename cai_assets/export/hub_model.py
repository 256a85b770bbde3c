"""A checkpoint as a folder for the Hugging Face Hub.

Guarantees: the weights are the checkpoint's, byte for byte; the folder carries its own lineage, so ``cai trace`` and
``cai verify`` work on it wherever it goes; local paths and addresses are removed from records and configurations,
and ``record.json`` then lists the digests of the files in it. Nothing here reaches the network.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from cai_assets.export.folder import fresh
from cai_assets.export.model_card import exported_card
from cai_assets.export.scrub import scrub
from cai_assets.export.subject import Subject
from cai_assets.lineage.rows import batches
from cai_assets.lineage.trace import LINEAGE, LINEAGE_ROWS, to_json
from cai_assets.store.canonical import digest_file
from cai_assets.store.files import write_atomic
from cai_assets.store.parquet import write_parquet
from cai_assets.store.published import RECORD, write_about
from cai_assets.store.sums import digests

LOCAL_NAMES = ("_name_or_path", "name_or_path", "base_model_name_or_path", "tokenizer_file")


def export_model(
    subject: Subject, out: Path, *, datasets: Sequence[str] = (), license_: str | None = None, force: bool = False
) -> None:
    """Write the folder ``out``. ``datasets``: names on the Hub of the data it was trained on. Raise ExportError."""
    with fresh(out, force=force, private=(subject.layout.path(), Path.home())) as folder:
        shutil.copytree(subject.folder, folder, dirs_exist_ok=True)
        for path in sorted(folder.glob("*config*.json")):
            _without_local_names(path)
        write_parquet(folder / LINEAGE_ROWS, map(_without_paths, batches(subject.traced.source)))
        write_atomic(folder / LINEAGE, to_json(subject.lineage).encode())
        write_atomic(folder / "README.md", exported_card(subject, datasets=datasets, license_=license_).encode())
        _record(subject, folder)


def _without_paths(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of the lineage; of the file that a general conversation came from, only the name."""
    return rows.with_columns(pl.col("source").str.replace(r"^.*[/\\]", ""))


def _without_local_names(path: Path) -> None:
    """A model's load path is useless elsewhere, and reveals who made it and where."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return
    local = {k: scrub(config[k]) for k in LOCAL_NAMES if isinstance(config, dict) and k in config}
    if any(config[k] != v for k, v in local.items()):
        write_atomic(path, json.dumps({**config, **local}, indent=2, ensure_ascii=False).encode())


def _record(subject: Subject, folder: Path) -> None:
    """The record of the folder as it is now. ``exported_from``: digest of the record that it was copied with."""
    listed = {name: digest for name, digest in digests(folder).items() if name != RECORD}
    before = subject.about.get("exported_from") or digest_file(subject.folder / RECORD)
    write_about(folder, {**subject.about, "exported_from": before, "files": listed})
