"""The context in which Dagster runs a stage: what is read becomes an input of the record, calls are counted."""

from __future__ import annotations

import time
from functools import cached_property

import dagster as dg

from cai_assets.assets import partition_of
from cai_assets.constitution.model import Constitution
from cai_assets.defs.gate import refuse_unfit_labeller
from cai_assets.engines.protocol import Engine
from cai_assets.pipeline.absent import why_absent
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import CheckpointGone, checkpoint_of
from cai_assets.steps.complete import Completer
from cai_assets.steps.usage import Usage
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.records import Record, RecordMissing, Ref
from cai_assets.versions.snapshots import SnapshotDamaged, UnknownVersion


class Run(Context):
    """One materialization of one asset, or of two that are made together.

    ``inputs``: the records read, in order; ``usage``: of the calls completed, by step, over all engines; ``told``: what
    a person should know of the asset that is being made.
    """

    def __init__(self, context: dg.AssetExecutionContext, project: Project) -> None:
        super().__init__(project, context.partition_key if context.assets_def.partitions_def else None,
                         context.log.info)
        self.context = context
        self.usage: dict[str, Usage] = {}
        self.told: list[str] = []
        self.start = time.monotonic()
        self._records: dict[tuple[str, str | None], Record] = {}

    @property
    def partition(self) -> str:
        """The version, of an asset that has one."""
        return str(self.context.partition_key)

    @cached_property
    def constitution(self) -> Constitution:
        return registered(self.project, str(self.version))

    def tell(self, line: str) -> None:
        """Say it in the terminal and in the run's log, and later on the asset's page; '' is nothing to say."""
        if line:
            self.told.append(line)
            self.context.log.warning(line)

    @property
    def inputs(self) -> tuple[Ref, ...]:
        return tuple(record.ref for record in self._records.values())

    def record(self, asset: str) -> Record:
        """The newest record of an asset above, when it was first asked for, noted as an input."""
        return self._records.get((asset, partition_of(asset, self.version))) or self.using(super().record(asset))

    def using(self, record: Record) -> Record:
        """Note a record as an input."""
        return self._records.setdefault((record.asset, record.partition), record)

    def checkpoint(self, asset: str) -> Checkpoint:
        try:
            return checkpoint_of(self.project, self.record(asset))
        except CheckpointGone as e:
            raise dg.Failure(str(e), allow_retries=False) from None

    def leave_out(self, asset: str) -> dg.MaterializeResult[None] | None:
        """What an asset yields that the version does not have: nothing is stored, and Dagster goes on below it. Its
        data version is Dagster's own, which changes with what is above: what is below sees through it."""
        if self.version is None or asset not in self.absent:
            return None
        why = why_absent(self.constitution, asset)
        self.context.log.info(why)
        return dg.MaterializeResult(asset_key=asset, metadata={"not_made": why})

    def may_train(self, labels: str) -> None:
        refuse_unfit_labeller(self.project, self.record(labels))

    def before(self) -> Record | None:
        try:
            record = super().before()
        except RecordMissing as e:
            raise dg.Failure(f"{self.version} starts from the RL policy of the round before: {e}",
                             allow_retries=False) from None
        return self.using(record) if record else None

    def completer(self, who: str, engine: Engine | None) -> Completer:
        completer = super().completer(who, engine)
        completer.usage = self.usage
        return completer


def registered(project: Project, key: str) -> Constitution:
    """The snapshot of a partition; a clear failure for a mistyped key, or a snapshot that was damaged."""
    try:
        return project.snapshots.load(key)
    except (UnknownVersion, SnapshotDamaged) as e:
        raise dg.Failure(str(e), allow_retries=False) from None
