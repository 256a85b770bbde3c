"""The policy that a round starts from: the starting model in round 1, the RL policy of the round before afterwards.

It writes the round's first responses, is trained into the round's SL policy, and criticizes itself unless a critic of
its own is set. Labeller and judge stay the same models over all rounds, so that rounds can be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cai_assets.engines.models import identify, prepare, told
from cai_assets.engines.protocol import Engine, ModelIdentity
from cai_assets.errors import CaiError
from cai_assets.pipeline.absent import last_policy
from cai_assets.pipeline.project import Project
from cai_assets.settings import Model, SettingsError
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.records import Record
from cai_assets.versions.rounds import round_of


class Base(NamedTuple):
    """A model to train from. ``name``: as the model card says it."""

    name: str
    path: Path
    identity: ModelIdentity


class CheckpointGone(CaiError, LookupError):
    """A record names a checkpoint that is not there, or damaged. The message says what to materialize again."""


def round_before(project: Project, partition: str) -> Record | None:
    """The record of the policy that starts this round, the last one of the round before; None in round 1.

    Raise RecordMissing if it was not made.
    """
    before = round_of(partition).before()
    return project.records.latest(last_policy(project.snapshots.load(before.key)), before.key) if before else None


def begin_round(project: Project, version: str) -> str:
    """Register the round after a version or a round of it; return its key. Raise UnknownVersion, or RecordMissing."""
    key = round_of(version).next().key
    project.snapshots.load(version)
    round_before(project, key)
    project.snapshots.register_round(key)
    return key


def checkpoint_of(project: Project, record: Record) -> Checkpoint:
    """The checkpoint that a record names, whole. Raise CheckpointGone."""
    found = project.checkpoints.whole(record.asset, record.digest)
    if found is None:
        damage = project.checkpoints.damage(record.asset, record.digest)
        what = f"is damaged ({damage})" if damage else f"is gone from {record.path}"
        raise CheckpointGone(f"{record.asset} names checkpoint {record.digest}, which {what}: "
                             f"materialize {record.asset} again")
    return found


def starting_policy(project: Project, record: Record | None) -> Base:
    """The model to train from. ``record``: that of ``round_before``."""
    if record is None:
        refuse_served_policy(project)
        return model_to_load(project, project.settings.models.role("policy"))
    found = checkpoint_of(project, record)
    return checkpoint_base(project, f"{record.asset} of {record.partition}", found)


def refuse_served_policy(project: Project) -> None:
    """Raise SettingsError if the policy to train is only served, so that there are no weights to train."""
    model = project.settings.models.role("policy")
    if model.base_urls:
        raise SettingsError(f"models.policy: {model.source} is served elsewhere, and only a model here can be trained: "
                            "set models.policy to a model folder or a Hub id (the generator is the default)")


def labeller(project: Project) -> Base:
    """The labeller as a model to load here, for rewards. Raise SettingsError if it is served elsewhere."""
    model = project.settings.models.role("labeller")
    if model.base_urls:
        raise SettingsError(f"rl.reward='labeller' runs the labeller in the training process, and {model.source} is "
                            "served at models.labeller.base_urls: name a local labeller, or set rl.reward='model'")
    return model_to_load(project, model)


def judge_of_responses(project: Project) -> Engine:
    """The labeler as an engine that a training process opens too. Raise SettingsError if it cannot be given one: a
    credential in an address is not written into a job."""
    model = project.settings.models.role("labeller")
    if any(address.secrets for address in model.base_urls):
        raise SettingsError("models.labeller: the training process asks this server, whose address holds a credential, "
                            "which is not written into the job: name the variable that holds the key in api_key_env")
    return project.engines.open(model)


def model_to_load(project: Project, model: Model) -> Base:
    """A model setting as a folder that a training process loads. Raise ModelError."""
    local = prepare(model, project.layout)
    return Base(model.source, local.path, _thinking_as(model, local.path, local.identity))


def checkpoint_base(project: Project, name: str, found: Checkpoint) -> Base:
    """A checkpoint of the policy, which thinks as the policy's setting says."""
    identity = identify(found.path, project.layout)
    return Base(name, found.path, _thinking_as(project.settings.models.role("policy"), found.path, identity))


def _thinking_as(model: Model, path: Path, identity: ModelIdentity) -> ModelIdentity:
    return identity.model_copy(update={"thinking": told(model, path)})


def responder(project: Project, record: Record | None) -> Engine:
    """Who writes the round's first responses."""
    if record is None:
        return project.engines.open(project.settings.models.role("generator"))
    return project.engines.open_checkpoint(checkpoint_of(project, record).path)


def starting_engine(project: Project, record: Record | None) -> Engine:
    """Who is trained, before it is. ``record``: that of ``round_before``."""
    if record is None:
        return project.engines.open(project.settings.models.role("policy"))
    return project.engines.open_checkpoint(checkpoint_of(project, record).path)


def critic(project: Project, record: Record | None) -> Engine:
    """Who critiques and revises: the critic that is set, or whoever wrote the responses."""
    own = project.settings.models.critic
    return project.engines.open(own) if own else responder(project, record)
