"""What the page of one version is made from: the records that speak for it, and the tables that they name.

Guarantees: nothing is run; the same records and limits give the same page, which ``stamp`` names; what was not made is
None, and ``make`` says the command that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from cai_assets.assets import OWN
from cai_assets.evals.conflicts import Conflicts, conflicts
from cai_assets.evals.statistics import Telling
from cai_assets.pipeline.absent import absent
from cai_assets.reports.compare.sides import Side, side
from cai_assets.settings import Monitors
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.checkpoints import Checkpoint, Checkpoints
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.versions.derived import Derivations
from cai_assets.versions.snapshots import Snapshots

FORMAT = 1  # of what is computed; part of the stamp


@dataclass(frozen=True)
class Evidence:
    """One version's records. ``limits``: of the reward-hacking monitors. ``price``: of a GPU hour, if one is set."""

    side: Side
    limits: Monitors = field(default_factory=Monitors)
    price: float | None = None

    @property
    def version(self) -> str:
        return self.side.version

    @property
    def layout(self) -> Layout:
        return self.side.layout

    @property
    def stamp(self) -> str:
        """A digest of the records and limits."""
        ids = sorted(f"{r.ref.id} {r.digest}" for r in self.side.records.values())
        limits = self.limits.model_dump(mode="json", exclude={"general_texts"})  # not a limit
        return tagged_hash("report", [FORMAT, self.side.name, ids, limits, self.price])

    def record(self, asset: str) -> Record | None:
        return self.side.records.get(asset)

    def table(self, asset: str) -> pl.DataFrame | None:
        """A small one, which is kept: of one that grows with the prompts see ``side.table``."""
        return self._tables.get(asset) if asset in self._tables else self._load(asset)

    @cached_property
    def _tables(self) -> dict[str, pl.DataFrame | None]:
        return {}

    def _load(self, asset: str) -> pl.DataFrame | None:
        self._tables[asset] = self.side.table(asset)
        return self._tables[asset]

    @cached_property
    def rows(self) -> pl.DataFrame | None:
        """The rows of the evaluation."""
        return self.side.detail("evaluation", "rows")

    @cached_property
    def policies(self) -> list[str]:
        """Those evaluated, in the order of the table."""
        metrics = self.table("evaluation")
        policies = [] if metrics is None else metrics["policy"].unique(maintain_order=True).to_list()
        return [p for p in policies if p != "reward_model"]

    @property
    def policy(self) -> str | None:
        """The policy that the version stands for: the last one trained that was evaluated."""
        return next((p for p in reversed(OWN) if p in self.policies), None)

    def setting(self, asset: str, group: str, name: str, default: Any = None) -> Any:
        """A setting as the asset was made with."""
        return self.side.setting(asset, group, name, default)

    @cached_property
    def absent(self) -> frozenset[str]:
        """The assets that the version does not have, because nothing asks for them; none that was made."""
        return absent(self.side.constitution) - self.side.records.keys()

    @cached_property
    def conflicts(self) -> Conflicts | None:
        """What the stress test found; None where none was asked for."""
        rows = self.table("stress")
        return conflicts(rows, confidence=self.confidence, enough=self.enough) if (
            rows is not None and rows.height) else None

    @property
    def telling(self) -> Telling:
        return self.side.telling

    @property
    def enough(self) -> int:
        return self.telling.enough

    @property
    def confidence(self) -> float:
        return self.telling.confidence

    def checkpoint(self, asset: str) -> Checkpoint | None:
        """The checkpoint of an asset, if it was made and is still there."""
        record = self.record(asset)
        return Checkpoints(self.layout).find(asset, record.digest) if record else None

    def make(self, asset: str) -> str:
        """The command that makes an asset of this version."""
        return f"cai materialize {self.version} --select {asset}"

    def rests_on(self, asset: str, n: str = "") -> str:
        """The record that a figure rests on, with its count in words."""
        record = self.record(asset)
        return "" if record is None else record.ref.id + (f", {n}" if n else "")


def evidence_of(layout: Layout, name: str, limits: Monitors | None = None, price: float | None = None) -> Evidence:
    """Of a version, a round or a record id. Raise UnknownVersion, UnknownTarget or RecordMissing."""
    return Evidence(side(layout, name), limits or Monitors(), price)


def every_version(layout: Layout, limits: Monitors | None = None, price: float | None = None) -> list[Evidence]:
    """Of each evaluated version, oldest first."""
    return [evidence_of(layout, v, limits, price) for v in evaluated(layout)]


def beside(evidence: Evidence) -> list[Evidence]:
    """The other evaluated versions of the same constitution, to be drawn beside this one."""
    names = evaluated(evidence.layout, evidence.side.constitution.name)
    return [evidence_of(evidence.layout, v, evidence.limits, evidence.price) for v in names if v != evidence.version]


def evaluated(layout: Layout, name: str | None = None) -> list[str]:
    """Evaluated versions in the order of registration; of one constitution if ``name`` is given.

    Versions that were derived to look at one principle are left out: the attribution speaks of them.
    """
    snapshots, derived = Snapshots(layout), Derivations(layout)
    evaluated_versions = set(Records(layout).partitions("evaluation"))
    versions = [v for v in snapshots.known() if v in evaluated_versions and derived.origin(v) is None]
    return [v for v in versions if name is None or snapshots.load(v).name == name]


def spent(records: Mapping[str, Record] | Sequence[Record], names: Sequence[str]) -> dict[str, float]:
    """Sums of what records cost."""
    every = list(records.values()) if isinstance(records, Mapping) else list(records)
    return {name: sum(getattr(r, name) for r in every) for name in names}
