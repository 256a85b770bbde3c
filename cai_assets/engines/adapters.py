"""Policies that were trained as low-rank adapters, served by the engine that has their base loaded.

A checkpoint holds whole weights; one that was trained as adapters keeps these in a folder of it too, with the digest of
what they belong to. An engine with a place for them then runs base and policies without loading a second model. What a
policy is does not change with that, and neither do its rows' keys: its numbers are those of the merged weights but for
rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cai_assets.engines.around import Around
from cai_assets.engines.protocol import Engine, Request, Result
from cai_assets.settings import Settings
from cai_assets.store.folders import has

FOLDER, CONFIG, WEIGHTS = "adapter", "adapter_config.json", "adapter_model.safetensors"
BASE = "base_model_name_or_path"  # peft's entry for the base: here the ``weights`` of its identity
TRAINED = ("mid", "sl", "rl")  # the settings of the trainings that make a policy, one on top of the other


class Adapters(NamedTuple):
    """What a checkpoint keeps beside its weights. ``base``: the ``weights`` of the identity of what they belong to."""

    folder: Path
    base: str
    rank: int


class TakesAdapters(Engine, Protocol):
    """An engine that may run its model with adapters."""

    @property
    def takes_adapters(self) -> bool:
        """Whether it has a place for them, and its model is of a kind that can have some."""

    def run_adapted(self, requests: Iterable[Request], adapters: Path) -> Iterator[Result]:
        """As ``run``, by the model with the adapters in a folder."""


class OnBase(Around):
    """A policy that its base's engine runs. ``engine``: of its whole weights, for a base that takes no adapters."""

    def __init__(self, engine: Whole, base: Whole, adapters: Path) -> None:
        super().__init__(engine)
        self._whole, self._base, self._adapters = engine, base, adapters

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request. Raise EngineLost if a file of the policy or of its base has changed."""
        self._whole.refuse()
        yield from (self._base.run_adapted(requests, self._adapters) if self._base.takes_adapters else
                    self._whole.run(requests))


class Whole(TakesAdapters, Protocol):
    """An engine of a model folder in this process."""

    def refuse(self) -> None:
        """Raise EngineLost unless it can run what it was opened with."""


def adapters_of(checkpoint: Path) -> Adapters | None:
    """The adapters that a checkpoint keeps; None if it has none, as those of earlier releases."""
    folder = checkpoint / FOLDER
    if not has(folder, CONFIG):
        return None
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return Adapters(folder, str(config[BASE]), int(config["r"]))


def largest_rank(settings: Settings) -> int:
    """Of the adapters that these settings train, one training on top of the other; 0 if none trains any."""
    return sum(group.lora.rank for group in (getattr(settings, name) for name in TRAINED) if group.lora)
