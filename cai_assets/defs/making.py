"""What every asset body does around its one pure function: read inputs, complete calls, write the record last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.assets import ASSETS, partition_of
from cai_assets.defs.lineage_metadata import lineage_metadata, reached
from cai_assets.defs.metadata import against_plan, cost_metadata, table_metadata
from cai_assets.engines.protocol import Engine
from cai_assets.lineage.trace import write_lineage
from cai_assets.lineage.trained import training_table
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import Base, CheckpointGone, checkpoint_of, round_before
from cai_assets.steps.complete import Completer, Usage, total
from cai_assets.store.canonical import digest_file
from cai_assets.store.checkpoints import RECORD, Checkpoint
from cai_assets.store.provenance import gpu_count, provenance
from cai_assets.store.records import Record, RecordMissing, Ref


class Making:
    """One materialisation of one asset (or of two made together) in the making.

    Everything read through it becomes an input of the record; everything completed through it is counted.
    """

    def __init__(self, context: dg.AssetExecutionContext, project: Project, *, partition: str | None) -> None:
        self.context, self.project, self.partition = context, project, partition
        self.usage: dict[str, Usage] = {}
        self._inputs: dict[str, Ref] = {}
        self._trained_on: dict[str, str] = {}
        self._start = time.monotonic()

    def record(self, asset: str) -> Record:
        """The newest record of an upstream asset, in this partition if it has partitions."""
        record = self.project.records.latest(asset, partition_of(asset, self.partition))
        return self.using(record)

    def using(self, record: Record) -> Record:
        """Note a record as an input."""
        self._inputs[f"{record.asset}/{record.partition}"] = record.ref
        return record

    def read(self, asset: str) -> pl.DataFrame:
        """The table of an upstream asset."""
        return self.project.records.table(self.record(asset))

    def checkpoint(self, asset: str) -> Checkpoint:
        """The checkpoint of an upstream asset."""
        try:
            return checkpoint_of(self.project, self.record(asset))
        except CheckpointGone as e:
            raise dg.Failure(str(e), allow_retries=False) from None

    def before(self) -> Record | None:
        """The RL policy that starts this round, noted as an input; None in round 1."""
        try:
            record = round_before(self.project, str(self.partition))
        except RecordMissing as e:
            raise dg.Failure(f"{self.partition} starts from the RL policy of the round before: {e}",
                             allow_retries=False) from None
        return self.using(record) if record else None

    def completer(self, engine: Engine) -> Completer:
        """Completes calls with this engine; usage is added up by step over all engines of the asset."""
        project = self.project
        return Completer(engine, project.store, seed=project.settings.seed, log=self.context.log.info,
                         usage=self.usage)

    def table(
        self, asset: str, frame: pl.DataFrame, *, settings: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None, details: Mapping[str, Any] | None = None, step: str | None = None,
    ) -> dg.MaterializeResult[None]:
        """Store the table, then its record; the content digest is the data version.

        ``settings``: the groups that were read, if not those declared; ``step``: count only this step's calls, where
        two assets are made together.
        """
        digest, path = self.project.records.save_table(asset, frame)
        usage = self.usage.get(step, Usage()) if step else total(self.usage.values())
        record = self._write(asset, digest, self.project.layout.relative(path), usage, settings, details,
                             rows=frame.height, seconds=usage.seconds if step else None)
        described = {**(metadata or {}), **cost_metadata(record, self.project.settings)}
        return self._result(record, {**described, **against_plan(record, self._plan()),
                                     **table_metadata(record, frame, path)})

    def trains_on(self, rows: pl.DataFrame, labels: pl.DataFrame | None = None) -> None:
        """Note which rows the checkpoint is trained on. ``labels``: the preference pairs that pairs are named by."""
        _, path = self.project.records.save_table("training_rows", training_table(rows, labels))
        self._trained_on = {"training_rows": self.project.layout.relative(path)}

    def write_lineage(
        self, folder: Path, asset: str, key: str, *, base: Base
    ) -> None:
        """Write what a checkpoint comes from, to lie beside its weights: so it can be traced wherever it is copied."""
        path = self.project.layout.relative(self.project.checkpoints.path(asset, key))
        details = {**self._trained_on, "base_name": base.name, "base": base.identity.weights}
        record = self._draft(asset, key, path, Usage(), None, details, rows=None)
        write_lineage(folder, self.project.layout, record)

    def trained(
        self, asset: str, checkpoint: Checkpoint, *, reused: bool, seconds: float, rows: int,
        metadata: Mapping[str, Any], details: Mapping[str, Any] | None = None,
    ) -> dg.MaterializeResult[None]:
        """Write the record of a checkpoint; its key is the data version, for training is not bit-reproducible."""
        known = {"reused_checkpoint": reused, "metrics": checkpoint.metrics, **self._trained_on,
                 "checkpoint_record": digest_file(checkpoint.path / RECORD), **(details or {})}
        path = self.project.layout.relative(checkpoint.path)
        record = self._write(asset, checkpoint.key, path, Usage(seconds=seconds), None, known, rows=rows)
        described: dict[str, Any] = {
            "checkpoint": dg.MetadataValue.path(str(checkpoint.path)), "key": checkpoint.key,
            "training": "reused" if reused else "trained", "training_rows": rows, **metadata,
            **lineage_metadata(record, checkpoint), **cost_metadata(record, self.project.settings),
            **against_plan(record, self._plan()),
        }
        if record.partition:
            self.context.log_event(reached(record, checkpoint))
        return self._result(record, described)

    def snapshot(self, digest: str, path: str, metadata: Mapping[str, Any],
                 details: Mapping[str, Any]) -> dg.MaterializeResult[None]:
        """Write the record of the constitution asset, whose content is a stored snapshot."""
        return self._result(self._write("constitution", digest, path, Usage(), None, details, rows=None), metadata)

    def _plan(self) -> dict[str, Any] | None:
        """The plan that the constitution's newest materialisation made, if this asset has a version."""
        if self.partition is None:
            return None
        try:
            record = self.project.records.latest("constitution", self.partition)
        except RecordMissing:
            return None
        plan: dict[str, Any] | None = record.details.get("plan")
        return plan

    def _write(
        self, asset: str, digest: str, path: str, usage: Usage, settings: Sequence[str] | None,
        details: Mapping[str, Any] | None, *, rows: int | None, seconds: float | None = None,
    ) -> Record:
        return self.project.records.add(
            self._draft(asset, digest, path, usage, settings, details, rows=rows, seconds=seconds))

    def _draft(
        self, asset: str, digest: str, path: str, usage: Usage, settings: Sequence[str] | None,
        details: Mapping[str, Any] | None, *, rows: int | None, seconds: float | None = None,
    ) -> Record:
        groups = ASSETS[asset].settings if settings is None else settings
        return Record(
            asset=asset, partition=self.partition, digest=digest, path=path, inputs=tuple(self._inputs.values()),
            constitution=self.partition, rows=rows, reused=usage.reused, generated=usage.generated,
            failed=usage.failed, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens,
            seconds=time.monotonic() - self._start if seconds is None else seconds,
            gpu_seconds=usage.seconds * gpu_count(),
            settings={g: getattr(self.project.settings, g).model_dump(mode="json") for g in groups},
            details={"errors": usage.errors, "engine_seconds": usage.seconds, "seed": self.project.settings.seed,
                     **(details or {})},
            provenance=provenance(), run_id=self.context.run.run_id,
        )

    @staticmethod
    def _result(record: Record, metadata: Mapping[str, Any]) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(
            asset_key=record.asset, data_version=dg.DataVersion(record.digest),
            metadata={**metadata, "record": record.ref.id},  # not a tag: those end at 63 characters, a key at 100
        )
