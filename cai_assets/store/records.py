"""Records: one per materialization of an asset, written last, never changed.

A record names what was made (content or checkpoint), what it was made from (the exact records read), and
what it cost. Its seal is checked whenever it is read. Dagster's own provenance pointer names the newest event of
*any* partition, so records, not it, are the lineage. Records of one asset and partition are numbered; the next number
is taken by an exclusive link, so two writers can never share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from cai_assets.errors import CaiError
from cai_assets.store.canonical import digest_lines
from cai_assets.store.files import sync_file
from cai_assets.store.json_text import parse_json
from cai_assets.store.layout import Layout, safe_name
from cai_assets.store.tables import Table, write_tables

UNPARTITIONED = "all"
KEPT = 1024  # records in memory, of some kilobytes each
NAMED = re.compile(r"records/[^/]+/[^/]+/[0-9]+\.json")


class RecordMissing(CaiError, LookupError):
    """No record for that asset and partition. The message says which asset to materialize."""


class RecordDamaged(CaiError, ValueError):
    """A record is not as it was written. The message says which, and what to do."""


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
    """What one materialization made. ``path`` is relative to the data root; ``seal`` a digest of all the rest."""

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
        """Whether it is unchanged. A record from before seals existed is accepted as it is."""
        return self.seal in {"", self._digest()}

    def sealed(self) -> Record:
        """The same record with its seal."""
        return self.model_copy(update={"seal": self._digest()})

    def _digest(self) -> str:
        return digest_lines("rec1", [self.model_dump_json(exclude={"seal"})])

    def named_paths(self) -> Iterator[str]:
        """Every path under the data root that it names: its own, and those of tables and checkpoints in its details."""
        yield self.path
        yield from (text for text in texts(self.details) if text.startswith(("tables/", "checkpoints/")))

    def named_tables(self) -> set[str]:
        """Paths of the tables that it names."""
        return {path for path in self.named_paths() if path.startswith("tables/")}

    @property
    def ref(self) -> Ref:
        return Ref(asset=self.asset, partition=self.partition, number=self.number, digest=self.digest)


class Records:
    """All records under one data root, and the tables they name."""

    def __init__(self, layout: Layout) -> None:
        self._layout, self._storage = layout, layout.storage

    def add(self, record: Record) -> Record:
        """Write the record under the next free number and return it with that number."""
        folder = _folder(record.asset, record.partition)
        while True:
            numbered = record.model_copy(update={"number": self._last(folder) + 1}).sealed()
            data = numbered.model_dump_json(indent=1).encode()
            if self._storage.put_if_absent(f"{folder}/{numbered.number:06d}.json", data):
                return numbered

    def latest(self, asset: str, partition: str | None) -> Record:
        """The newest record. Raise RecordMissing if the asset was never materialized there, or RecordDamaged."""
        folder = _folder(asset, partition)
        last = self._last(folder)
        if last == 0:
            where = f" for {partition}" if partition else ""
            raise RecordMissing(f"{asset}{where} is not materialized yet: materialize it first")
        return self._load(f"{folder}/{last:06d}.json")

    def get(self, ref: Ref) -> Record:
        """The record that is pointed to. Raise FileNotFoundError, or RecordDamaged."""
        return self._load(f"{_folder(ref.asset, ref.partition)}/{ref.number:06d}.json")

    def has(self, ref: Ref) -> bool:
        """Whether there is a record of that asset, partition and number."""
        return self._layout.has(f"records/{ref.id}.json")

    def assets(self) -> list[str]:
        """Assets that have a record."""
        return sorted({name.split("/")[1] for name in self.names()})

    def names(self, folder: str = "records") -> list[str]:
        """Where every record lies under the data root."""
        names = [e.name for e in self._storage.list(folder)]
        return [n for n in names if NAMED.fullmatch(n)]

    def named(self, name: str) -> Record:
        """The record that lies there. Raise FileNotFoundError, or RecordDamaged."""
        return self._load(name)

    def every(self, asset: str) -> list[Record]:
        """All records of an asset, over all partitions. Raise RecordDamaged."""
        return [self._load(name) for name in self.names(f"records/{safe_name(asset)}")]

    def history(self, asset: str, partition: str) -> list[Record]:
        """All records of an asset for one partition, oldest first. Raise RecordDamaged."""
        return [self._load(name) for name in sorted(self.names(_folder(asset, partition)))]

    def partitions(self, asset: str) -> list[str]:
        """Partitions of an asset that have at least one record."""
        return sorted({name.split("/")[2] for name in self.names(f"records/{safe_name(asset)}")} - {UNPARTITIONED})

    def save_table(self, asset: str, frame: pl.DataFrame) -> tuple[str, Path]:
        """Store a table under its content digest (once) and return digest and path."""
        (saved,) = self.save_tables([asset], [(frame,)])
        return saved.digest, saved.path

    def save_tables(self, assets: Sequence[str], rows: Iterable[tuple[pl.DataFrame, ...]]) -> list[Table]:
        """As ``save_table``, of several tables that are made together: each of ``rows`` has a part of every one."""
        made = write_tables([self._layout.folder("tables", asset) for asset in assets], rows)
        return [self._saved(asset, table) for asset, table in zip(assets, made, strict=True)]

    def _saved(self, asset: str, made: Table) -> Table:
        name = f"tables/{asset}/{made.digest.partition(':')[2]}.parquet"
        if self._layout.has(name):
            made.path.unlink()
        else:
            sync_file(made.path)
            self._storage.take(made.path, name)
        return Table(self._storage.local(name), made.digest)

    def stored(self, record: Record) -> Table:
        """The table a record names."""
        return Table(self._layout.absolute(record.path))

    def table(self, record: Record) -> pl.DataFrame:
        """All of it at once."""
        return self.stored(record).read()

    def _last(self, folder: str) -> int:
        return max((int(PurePath(name).stem) for name in self.names(folder)), default=0)

    def _load(self, name: str) -> Record:
        return _read(self._layout, name)


@lru_cache(KEPT)
def _read(layout: Layout, name: str) -> Record:
    """A record, which never changes: a run asks for the same ones again and again."""
    data = layout.storage.get(name)
    try:
        parse_json(data)
        record = Record.model_validate_json(data)
    except ValueError as e:
        raise _damaged(layout, name, f"cannot be read: {str(e).splitlines()[0]}") from None
    if f"records/{record.ref.id}.json" != name:
        raise _damaged(layout, name, f"says it is {record.ref.id}")
    if not record.intact:
        raise _damaged(layout, name, "does not say what was written")
    return record


def _damaged(layout: Layout, name: str, what: str) -> RecordDamaged:
    _, asset, partition, _ = name.split("/")
    version = "VERSION" if partition == UNPARTITIONED else partition
    return RecordDamaged(f"{layout.path(name)} {what}: restore it from a copy of the data root; without one, "
                         f"move it away and run 'cai materialize {version} --select {asset}'")


def _folder(asset: str, partition: str | None) -> str:
    return f"records/{safe_name(asset)}/{safe_name(partition or UNPARTITIONED)}"


def texts(value: Any) -> Iterator[str]:
    """Every text in a value that was JSON, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
