"""The checkpoint to export, with everything known about it.

Guarantee: its folder matches its record, and its lineage is complete; otherwise there is nothing to export.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.assets import CHECKPOINTS
from cai_assets.errors import CaiError
from cai_assets.export.extra import ExportError
from cai_assets.export.scrub import scrub, scrub_lineage, scrub_record
from cai_assets.lineage.targets import every_record
from cai_assets.lineage.trace import Lineage, Traced, trace, tree
from cai_assets.lineage.verify.checkpoints import checkpoint_problems
from cai_assets.reports.text.coverage import coverage_line
from cai_assets.store.checkpoints import Checkpoints
from cai_assets.store.folders import has
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import read_parquet
from cai_assets.store.published import RECORD, read_about
from cai_assets.store.records import Record, RecordDamaged
from cai_assets.versions.parents import parent_of
from cai_assets.versions.snapshots import SnapshotDamaged, Snapshots, UnknownVersion

UNTOUCHED = {"key", "kind", "data", "metrics", "principles", "files"}


@dataclass(frozen=True)
class Subject:
    """``about``: what its ``record.json`` says; ``lineage``: both without local paths. ``evaluation``: the newest
    record that measured it, with the records above it by id; None if it was not evaluated here."""

    layout: Layout
    folder: Path
    about: Mapping[str, Any]
    lineage: Lineage
    traced: Traced
    evaluation: Record | None
    evaluated: Mapping[str, Record]

    @property
    def asset(self) -> str:
        return self.lineage.top.asset

    @property
    def key(self) -> str:
        return str(self.about["key"])

    @property
    def name(self) -> str:
        """A short name, such as 'rl_policy-helpful-v1-0123abcd'."""
        return "-".join(filter(None, (self.asset, self.lineage.top.partition)))

    def metrics(self) -> pl.DataFrame:
        """Its evaluation: rows of evals.evaluate.METRICS_SCHEMA; none without one."""
        if self.evaluation is None:
            return pl.DataFrame()
        return read_parquet(self.layout.absolute(self.evaluation.path)).filter(
            pl.col("policy") == self.asset, pl.col("value").is_not_null())

    def coverage(self) -> str:
        """How far its constitution covers the document that this derives from, as a line; '' if none is named, or if
        the version is not registered here."""
        if self.lineage.top.partition is None:
            return ""
        snapshots = Snapshots(self.layout)
        try:
            own = snapshots.load(self.lineage.top.partition)
            return coverage_line(own, parent_of(own, snapshots))
        except (UnknownVersion, SnapshotDamaged):
            return ""

    def base(self) -> tuple[str, str]:
        """Name and weights of the model that all training started from, through every checkpoint between."""
        here, models = self.lineage.root, self.lineage.models
        while above := self._policy_above(self.lineage.records[here]):
            here = above
        names = models.get(here, {})
        return (names.get("base_name", str(self.about["base_name"])),
                names.get("base", str(self.about["base"]["weights"])))

    def _policy_above(self, record: Record) -> str | None:
        """The checkpoint that a record's training started from, if it is one of ours."""
        weights = self.lineage.models.get(record.ref.id if record.number else record.digest, {}).get("base")
        above = [r for r in self.lineage.records.values() if r.asset in CHECKPOINTS and r.digest == weights]
        return min(above, key=lambda r: r.created).ref.id if above else None


def find_subject(layout: Layout, target: str) -> Subject:
    """The checkpoint that a target of ``trace`` names. Raise ExportError."""
    try:
        traced = trace(layout, target)
    except CaiError as e:
        raise ExportError(str(e)) from None
    top = traced.lineage.top
    if top.asset not in CHECKPOINTS:
        raise ExportError(f"{target} is {top.asset}, not a checkpoint: name one of {', '.join(CHECKPOINTS)}, such as "
                          f"{CHECKPOINTS[-1]}@{top.partition or 'VERSION'}")
    if traced.lineage.problems:
        raise ExportError(f"the lineage of {target} is incomplete: {'; '.join(traced.lineage.problems)}")
    folder = Path(target) if has(Path(target), RECORD) else _folder(layout, top)
    for problem in checkpoint_problems(folder):
        raise ExportError(f"{problem.path} {problem.what}: {problem.todo}")
    about = read_about(folder)
    about = {k: v if k in UNTOUCHED else scrub(v) for k, v in about.items()}
    evaluation = _evaluation(layout, top)
    above = tree(layout, evaluation) if evaluation else {}
    return Subject(layout, folder, about, scrub_lineage(traced.lineage), traced,
                   evaluation and scrub_record(evaluation), {name: scrub_record(r) for name, r in above.items()})


def _folder(layout: Layout, top: Record) -> Path:
    return Checkpoints(layout).local(top.asset, top.digest)


def _evaluation(layout: Layout, top: Record) -> Record | None:
    """The newest evaluation that read this checkpoint."""
    try:
        evaluations = [r for r in every_record(layout, ("evaluation",))
                       if any((i.asset, i.digest) == (top.asset, top.digest) for i in r.inputs)]
    except (RecordDamaged, OSError) as e:
        raise ExportError(f"the records of evaluation cannot be read ({e}): 'cai verify' names them") from None
    return max(evaluations, key=lambda r: r.created, default=None)
