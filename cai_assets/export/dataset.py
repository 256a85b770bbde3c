"""What an exported data set is made of: its configs, their splits, and the records that led to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.store.records import Record

Config = Literal["sft", "preferences", "cai"]
ExportKind = Literal["sft", "preferences", "cai", "all"]


@dataclass(frozen=True)
class DataExport:
    """What is exported. ``parent``: what the constitution derives from, where it is registered. ``splits``: rows by
    config and split; ``records``: all that led to them, by id, and ``sources`` the one of each config; ``left_out``:
    counts of rows that are in no split, by reason.
    """

    version: str
    constitution: Constitution
    license: str | None
    parent: Constitution | None = None
    splits: dict[Config, dict[str, pl.DataFrame]] = field(default_factory=dict)
    sources: dict[Config, Record] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    left_out: dict[Config, dict[str, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(f.height for splits in self.splits.values() for f in splits.values())
