"""What a training run writes, in bytes: known before it starts, so that a disk that is too small is said before."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cai_assets.engines.number_format import WIDTH, number_format
from cai_assets.engines.weights import parameters
from cai_assets.errors import CaiError
from cai_assets.settings import Settings, Training
from cai_assets.store.folders import free, size
from cai_assets.train.identity import TRAINING_GROUP, is_taken
from cai_assets.train.job import TrainingKind

FULL = 4  # of a number in float32
STATE = 3 * FULL  # of each parameter that is trained: itself and the two moments of Adam, in float32
ADAPTED = 50  # of all parameters, adapters train a fiftieth at most
REMEDY = "free space, or move the data root to a larger disk (CAI_DATA_ROOT; a link will do), or train adapters (lora)"
STATES = 3  # of which two are kept while the next is written


class NoRoom(CaiError, OSError):
    """A disk has too little room for what is to be written. The message says how much, and what to do."""


class Footprint(NamedTuple):
    """``final``: of the checkpoint; ``state``: of one saved state to resume from, which every training writes at its
    end."""

    final: int
    state: int

    @property
    def least(self) -> int:
        return self.final + self.state

    @property
    def most(self) -> int:
        return self.final + STATES * self.state


def footprint(base: Path, settings: Settings, kind: TrainingKind) -> Footprint:
    """Of a training from the model in a folder."""
    group: Training = getattr(settings, TRAINING_GROUP[kind])
    numbers = parameters(base)
    trained = 0 if is_taken(settings, kind) else numbers // ADAPTED if group.lora else numbers
    adapters = FULL * trained if group.lora else 0  # they are kept beside the whole
    return Footprint(numbers * WIDTH[number_format(settings.engine.dtype).dtype] + adapters, trained * STATE)


def refuse_without_room(what: str, writes: Footprint, work: Path) -> None:
    """Raise NoRoom if the work folder's disk surely cannot hold what is written. What lies there already is used."""
    left, needed = free(work), writes.least - size(work)
    if needed > left:
        raise NoRoom(f"{what} writes {gb(writes.least)} ({gb(writes.final)} of weights, {gb(writes.state)} of state to "
                     f"resume from) under {work}, and {gb(left)} are free there: {REMEDY}")


def gb(size: float) -> str:
    """Bytes for people: '1.9 GB', '14 MB'."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
