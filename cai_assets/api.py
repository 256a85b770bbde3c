"""What was made, for a notebook or a script: ``cai_assets.load("revisions", version)``.

Reads records and runs nothing. Names are those of the command line.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.assets import ASSETS, CHECKPOINTS, partition_of
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.files import constitution_file
from cai_assets.constitution.load import load_file
from cai_assets.errors import CaiError
from cai_assets.pipeline.project import Project
from cai_assets.store.records import Record


class NotThere(CaiError, LookupError):
    """There is no such asset, or nothing of that kind. The message says what to use."""


def load(asset: str, version: str | None = None, **settings: Any) -> pl.DataFrame:
    """The newest table of an asset. Its columns are described in Dagster's catalog.

    ``version``: a registered one, or the name of a constitution, which stands for its current file; none for assets
    that no version owns. ``settings``: as in settings.yaml, such as ``data_root="elsewhere"``. Of ``constitution``: one
    row per principle, as registered. Raise NotThere for a checkpoint, RecordMissing for what is not materialized yet.
    """
    project = Project.open(settings)
    if asset in CHECKPOINTS:
        raise NotThere(f"{asset} is a checkpoint: cai_assets.checkpoint({asset!r}, VERSION) is its folder")
    record = _record(project, asset, version)
    if asset == "constitution":
        principles = project.snapshots.load(str(record.partition)).principles
        return pl.DataFrame([p.model_dump(mode="json") for p in principles], infer_schema_length=None)
    return project.records.table(record)


def checkpoint(asset: str, version: str | None = None, **settings: Any) -> Path:
    """The folder of the newest checkpoint of a training, for ``AutoModelForCausalLM.from_pretrained``.

    Raise NotThere for a table, RecordMissing for what is not trained yet.
    """
    project = Project.open(settings)
    record = _record(project, asset, version)
    if asset not in CHECKPOINTS:
        raise NotThere(f"{asset} is a table: cai_assets.load({asset!r}, VERSION); checkpoints are "
                       + ", ".join(CHECKPOINTS))
    return project.layout.absolute(record.path)


def _record(project: Project, asset: str, version: str | None) -> Record:
    if asset not in ASSETS:
        near = difflib.get_close_matches(asset, ASSETS, n=1)
        raise NotThere(f"no asset {asset!r}: " + (f"did you mean {near[0]!r}?" if near else
                                                  f"the assets are {', '.join(ASSETS)}"))
    if version is None and ASSETS[asset].versioned:
        known = ", ".join(project.records.partitions(asset)) or "none yet"
        raise NotThere(f"{asset} is made for each version: name one. Materialized: {known}")
    file = constitution_file(project.settings.constitutions, version) if version else None
    key = partition_key(load_file(file)) if file and file.is_file() else version
    return project.records.latest(asset, partition_of(asset, key))
