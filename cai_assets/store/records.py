"""Records: one per materialisation of an asset, written last, never changed.

A record names what was made (content or checkpoint), what it was made from (the exact records read), and
what it cost. Dagster's own provenance pointer names the newest event of *any* partition, so records, not
it, are the lineage. Records of one asset and partition are numbered; the next number is taken by an
exclusive link, so two writers can never share one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from cai_assets.errors import CaiError
from cai_assets.store.canonical import digest_lines
from cai_assets.store.layout import Layout, safe_name, write_atomic
from cai_assets.store.parquet import parquet_bytes, read_parquet

UNPARTITIONED = "all"


class RecordMissing(CaiError, LookupError):
    """No record for that asset and partition. The message says which asset to materialise."""


class Ref(BaseModel):
    """A pointer to one record and the content it had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    partition: str | None
    number: int
    digest: str

    @property
    def id(self) -> str:
        return f"{self.asset}/{self.partition or UNPARTITIONED}/{self.number:06d}"


class Record(BaseModel):
    """What one materialisation made. ``path`` is relative to the data root; ``seal`` a digest of all the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    partition: str | None
    number: int = 0
    digest: str
    path: str
    inputs: tuple[Ref, ...] = ()
    constitution: str | None = None
    rows: int | None = None
    reused: int = 0
    generated: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    settings: dict[str, Any] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    run_id: str = ""
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    seal: str = ""

    @property
    def intact(self) -> bool:
        """Whether it says what was written. A record made before there were seals is taken as it is."""
        return self.seal in {"", self._digest()}

    def sealed(self) -> Record:
        """The same record with its seal."""
        return self.model_copy(update={"seal": self._digest()})

    def _digest(self) -> str:
        return digest_lines("rec1", [self.model_dump_json(exclude={"seal"})])

    def named_paths(self) -> Iterator[str]:
        """Every path under the data root that it names: its own, and those of tables and checkpoints in its details."""
        yield self.path
        yield from (text for text in _texts(self.details) if text.startswith(("tables/", "checkpoints/")))

    def named_tables(self) -> set[str]:
        """Paths of the tables that it names."""
        return {path for path in self.named_paths() if path.startswith("tables/")}

    @property
    def ref(self) -> Ref:
        return Ref(asset=self.asset, partition=self.partition, number=self.number, digest=self.digest)


class Records:
    """All records under one data root, and the tables they name."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def add(self, record: Record) -> Record:
        """Write the record under the next free number and return it with that number."""
        folder = self._folder(record.asset, record.partition)
        while True:
            numbered = record.model_copy(update={"number": self._last(folder) + 1}).sealed()
            temporary = folder / f".{uuid.uuid4().hex}.tmp"
            write_atomic(temporary, numbered.model_dump_json(indent=1).encode())
            try:
                os.link(temporary, folder / f"{numbered.number:06d}.json")
                return numbered
            except FileExistsError:
                continue
            finally:
                temporary.unlink(missing_ok=True)

    def latest(self, asset: str, partition: str | None) -> Record:
        """The newest record; raise RecordMissing if the asset was never materialised there."""
        folder = self._folder(asset, partition)
        last = self._last(folder)
        if last == 0:
            where = f" for {partition}" if partition else ""
            raise RecordMissing(f"{asset}{where} has not been materialised yet: materialise it first")
        return self._load(folder, last)

    def get(self, ref: Ref) -> Record:
        return self._load(self._folder(ref.asset, ref.partition), ref.number)

    def every(self, asset: str) -> list[Record]:
        """All records of an asset, over all partitions."""
        root = self._layout.folder("records", asset)
        return [self._load(p.parent, int(p.stem)) for p in sorted(root.glob("*/[0-9]*.json"))]

    def partitions(self, asset: str) -> list[str]:
        """Partitions of an asset that have at least one record."""
        root = self._layout.folder("records", asset)
        return sorted(p.name for p in root.iterdir() if p.is_dir() and self._last(p) and p.name != UNPARTITIONED)

    def save_table(self, asset: str, frame: pl.DataFrame) -> tuple[str, Path]:
        """Store a table under its content digest (once) and return digest and path."""
        digest = table_digest(frame)
        path = self._layout.file("tables", asset, digest.partition(":")[2] + ".parquet")
        if not path.exists():
            write_atomic(path, parquet_bytes(frame))
        return digest, path

    def table(self, record: Record) -> pl.DataFrame:
        """The table a record names."""
        return read_parquet(self._layout.absolute(record.path))

    def _folder(self, asset: str, partition: str | None) -> Path:
        return self._layout.folder("records", safe_name(asset), safe_name(partition or UNPARTITIONED))

    @staticmethod
    def _last(folder: Path) -> int:
        return max((int(p.stem) for p in folder.glob("[0-9]*.json")), default=0)

    @staticmethod
    def _load(folder: Path, number: int) -> Record:
        return Record.model_validate_json((folder / f"{number:06d}.json").read_bytes())


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value that was JSON, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def table_digest(frame: pl.DataFrame) -> str:
    """Digest of a table's schema and rows in their order: equal content, equal digest."""
    schema = [f"{name}={dtype}" for name, dtype in frame.schema.items()]
    return digest_lines("t1", [*schema, frame.write_ndjson()])
