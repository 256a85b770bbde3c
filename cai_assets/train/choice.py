"""Which settings make a training fit: the ways of ``memory: auto``, and what to set where a training does not fit.

In order: what changes no number first (activations computed again, a training divided among its processes), then the
same updates in smaller minibatches, then what changes numbers (8-bit moments, a value model that shares the policy's
trunk, adapters, adapters on a base in 4 bits).
The memory of the machine decides, not what is free at the moment: so a checkpoint's key does not depend on the hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.engines.memory import capacity
from cai_assets.engines.model_shape import shape_of
from cai_assets.engines.number_format import device, number_format
from cai_assets.errors import CaiError
from cai_assets.settings import Reinforcement, Settings, Training
from cai_assets.train.footprint import gb
from cai_assets.train.identity import TRAINING_GROUP
from cai_assets.train.job import TrainingKind
from cai_assets.train.memory import Need, Place, has_value_model, training_need

Changes = dict[str, Any]


class NoMemory(CaiError, MemoryError):
    """A training surely does not fit into memory. The message says what it needs, and what to set."""


TOLERANCE = 0.15  # of an estimate: what surely does not fit is larger by more than this
ADAPTERS = {"rank": 16}


class Fit(NamedTuple):
    """A training against the memory of each of its processes. ``changes``: of settings, with which it ``fits``."""

    need: Need
    room: int
    changes: Changes

    @property
    def fits(self) -> bool:
        return not self.room or self.need.total <= self.room

    @property
    def surely_not(self) -> bool:
        return self.need.total * (1 - TOLERANCE) > self.room > 0


def here(settings: Settings) -> Place:
    """Where trainings run."""
    return Place(device(), number_format(settings.engine.dtype).dtype)


def room(settings: Settings, group: Training, place: Place) -> int:
    """Bytes of one process: a GPU is its own, a machine's memory is shared by all of its processes. 0 if unknown, as
    that of the nodes that Ray will choose is (others are taken to be like this machine), and where another program
    trains."""
    nodes = settings.nodes_of(group)
    if (nodes > 1 and settings.engine.replicas) or not group.here:
        return 0
    return capacity() // (1 if place.device.accelerator else group.processes // nodes)


def as_set(base: Path, settings: Settings, kind: TrainingKind, grader: Path | None = None) -> Fit:
    """A training as its settings have it. ``base``, ``grader``: folders of the model that is trained, and of the one
    whose scores are the reward."""
    return _Sizes(base, settings, kind, grader).fit({})


def fitting(base: Path, settings: Settings, kind: TrainingKind, grader: Path | None = None) -> Fit:
    """The first way in which the training fits; the last, if none does."""
    sizes = _Sizes(base, settings, kind, grader)
    found = sizes.fit({})
    for changes in _ways(sizes.group, sizes.place):
        if found.fits:
            break
        found = sizes.fit(changes)
    return found


def chosen(base: Path, settings: Settings, kind: TrainingKind, grader: Path | None = None) -> Settings:
    """The settings with which this training is done: with ``memory: auto``, those that make it fit."""
    group = _group(settings, kind)
    if group.memory != "auto":
        return settings
    changed = changed_by(group, fitting(base, settings, kind, grader).changes)
    return settings.model_copy(update={TRAINING_GROUP[kind]: changed})


def chosen_changes(before: Settings, now: Settings, kind: TrainingKind) -> Changes:
    """What ``chosen`` changed."""
    old, new = (_group(settings, kind).model_dump() for settings in (before, now))
    return {name: value for name, value in new.items() if value != old[name]}


def refuse_without_memory(what: str, found: Fit, better: Fit, kind: TrainingKind) -> None:
    """Raise NoMemory if a training surely does not fit. ``better``: the first way in which it does, if any."""
    if found.surely_not:
        raise NoMemory(f"{what} needs about {gb(found.need.total)} of memory ({found.need}) and has {gb(found.room)}: "
                       f"{remedy(better, kind)}")


def remedy(better: Fit, kind: TrainingKind) -> str:
    """What to set so that a training fits."""
    if not better.fits:
        return "no setting makes it fit: use a smaller model or more GPUs (processes, sharding)"
    return (f"set {said(better.changes, kind)} (then about {gb(better.need.total)}), or "
            f"{TRAINING_GROUP[kind]}.memory=auto")


class _Sizes:
    """A training on this machine, with one set of changes or another."""

    def __init__(self, base: Path, settings: Settings, kind: TrainingKind, grader: Path | None) -> None:
        self.base, self.grader = shape_of(base), shape_of(grader) if grader else None
        self.group, self.kind, self.place = _group(settings, kind), kind, here(settings)
        self.settings = settings

    def fit(self, changes: Changes) -> Fit:
        group = changed_by(self.group, changes)
        need = training_need(self.base, group, self.kind, self.place, graded_by=self.grader)
        return Fit(need, room(self.settings, group, self.place), changes)


def changed_by(group: Training, changes: Changes) -> Training:
    """A settings group with changes, checked."""
    return type(group).model_validate({**group.model_dump(), **changes})


def said(changes: Changes, kind: TrainingKind) -> str:
    """Changes as they are set: 'sl.checkpointing=true sl.batch_size=1'."""
    return " ".join(f"{TRAINING_GROUP[kind]}.{name}={_shown(value)}" for name, value in changes.items())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(part)}" for name, part in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ways(group: Training, place: Place) -> Iterator[Changes]:
    """Ever more changes, the smallest first."""
    changes: Changes = {"checkpointing": True}
    yield dict(changes)
    if group.processes > 1:
        changes["sharding"] = "fsdp" if group.sharding == "none" else group.sharding
        yield dict(changes)
    for batch in _halves(group.batch_size):
        rows = group.batch_size * group.gradient_accumulation
        changes |= {"batch_size": batch, "gradient_accumulation": rows // batch}
        yield dict(changes)
    bits = place.device.accelerator and find_spec("bitsandbytes") is not None
    eight = {"optimizer": "adamw_8bit"} if bits and group.lora is None else {}
    if eight:
        yield changes | eight
    if isinstance(group, Reinforcement) and has_value_model(group):
        changes["value_model"] = "shared"
        yield changes | eight
    if group.lora is None:
        changes["lora"] = ADAPTERS
        yield dict(changes)
    if bits:
        yield {**changes, "quantized": True, "sharding": "none"}


def _halves(batch: int) -> Iterator[int]:
    """What the minibatch can be divided into: the same rows make each update."""
    yield from (n for n in range(batch // 2, 0, -1) if batch % n == 0)


def _group(settings: Settings, kind: TrainingKind) -> Training:
    group: Training = getattr(settings, TRAINING_GROUP[kind])
    return group
