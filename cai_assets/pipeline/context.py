"""What a stage of the graph is run with.

A stage says once which tables it reads, which models it asks and which checkpoints it starts from, and under which
settings. Dagster's run of an asset (``defs/run.py``) and a plan that only looks keys up (``plan/dry.py``) are contexts:
both run the same stages, so that a plan cannot say anything else than a run does.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import polars as pl

from cai_assets.assets import TRAINED, partition_of
from cai_assets.constitution.model import Constitution
from cai_assets.engines.protocol import Engine
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.policies import open_policies, policy_names
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import CheckpointGone, checkpoint_of, critic, responder, round_before, starting_engine
from cai_assets.settings import Role, Settings
from cai_assets.steps.complete import Completer, Log
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.records import Record, RecordMissing
from cai_assets.store.tables import Table


def as_policy(name: str) -> str:
    """Who is asked, where a policy is: no role, whatever a policy is called."""
    return f"policy {name}"


class Context:
    """One asset of a constitution version, or of none, being made. This one reads the newest records, asks the models
    and stores their calls, and records nothing."""

    def __init__(self, project: Project, version: str | None, log: Log = lambda _: None) -> None:
        self.project, self.version, self.log = project, version, log

    @property
    def settings(self) -> Settings:
        return self.project.settings

    @cached_property
    def absent(self) -> frozenset[str]:
        """The assets that this version does not have, because nothing asks for them."""
        return absent(self.constitution, self.settings, str(self.version))

    def first_had(self, *assets: str) -> str | None:
        """The first of these assets that this version has."""
        return next((name for name in assets if name not in self.absent), None)

    @cached_property
    def constitution(self) -> Constitution:
        """The registered version. Raise UnknownVersion."""
        return self.project.snapshots.load(str(self.version))

    def record(self, asset: str) -> Record:
        """The record of an asset above. Raise RecordMissing."""
        return self.project.records.latest(asset, partition_of(asset, self.version))

    def note(self, asset: str) -> None:
        """An asset above decides this one, though no table of it is read."""
        self.record(asset)

    def table(self, asset: str) -> Table:
        """The table of an asset above."""
        return self.project.records.stored(self.record(asset))

    def read(self, asset: str, *columns: str, where: pl.Expr | None = None) -> pl.DataFrame:
        """Rows of it, and some columns or all."""
        return self.table(asset).read(*columns, where=where)

    def checkpoint(self, asset: str) -> Checkpoint | None:
        """The checkpoint of a training above; None in a plan, while it is to be trained. Raise CheckpointGone."""
        return checkpoint_of(self.project, self.record(asset))

    def is_made(self, asset: str) -> bool:
        """Whether an asset above is there; in a plan, whether it will be."""
        try:
            return bool(self.record(asset))
        except RecordMissing:
            return False

    def may_train(self, labels: str) -> None:
        """Where checkpoints are recorded: stop here unless the gate lets these labels train."""

    def before(self) -> Record | None:
        """The record of the RL policy that starts this round; None in round 1. Raise RecordMissing."""
        return round_before(self.project, str(self.version))

    def complete(self, role: Role | Literal["responder", "start"]) -> Completer:
        """Completes calls of a model: 'responder', 'critic', and 'start', the policy to train, as the round has them,
        the others as the settings do."""
        match role:
            case "start":
                engine = starting_engine(self.project, self.before())
            case "responder":
                engine = responder(self.project, self.before())
            case "critic":
                engine = critic(self.project, self.before())
            case _:
                engine = self.project.engines.open(self.settings.models.role(role))
        return self.completer(role, engine)

    def complete_as(self, policy: str) -> Completer:
        """Completes calls of a policy that an asset above trained."""
        found = self.checkpoint(policy)
        return self.completer(as_policy(policy), self.project.engines.open_checkpoint(found.path) if found else None)

    def policies(self) -> dict[str, Completer]:
        """Completes calls of every policy that is looked at, in the order of tables. Raise ModelError."""
        trained = {name: self.checkpoint(name) for name in TRAINED if name not in self.absent}
        engines = open_policies(self.project, {name: found for name, found in trained.items() if found})
        return {name: self.completer(as_policy(name), engines.get(name)) for name in policy_names(
            self.settings, self.absent)}

    def completer(self, who: str, engine: Engine | None) -> Completer:
        """Completes calls with the engine of ``who`` was asked for; None: a checkpoint that is still to be trained."""
        if engine is None:
            raise CheckpointGone(f"there is no {who} to ask: it is trained before what asks it")
        return Completer(engine, self.project.store, seed=self.settings.seed, log=self.log)
