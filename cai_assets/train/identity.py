"""What determines a checkpoint, and the key that hashes it.

Training rows, base weights, the settings that the training run reads, seed and training code version. Written once: for
the key, for the checkpoint's record and for the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cai_assets.engines.number_format import number_format
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.evals.rubric import Part
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.settings import Reinforcement, Reward, Settings, Training
from cai_assets.store.canonical import canonical_json, tagged_hash
from cai_assets.store.tables import table_digest
from cai_assets.train.job import CODE_VERSION, TrainingKind

TRAINING_GROUP: dict[TrainingKind, str] = {
    "texts": "mid", "supervised": "sl", "reward": "reward", "reinforcement": "rl"}
NOT_IN_KEY = {"save_every", "human", "source",  # rows are in the digest of the data, wherever they are from
              "memory", "checkpointing", "sharding", "liger"}  # the same numbers by another way, but for rounding
# Newer than the key: absent where they are as they would be without them.
LATER = ("principles", "checks", "input", "controls", "optimizer", "quantized", "packing", "value_model")
# A monitor's limit; which rows are held out is in the digest of the data; who samples from the same distribution.
NOT_IN_RL_KEY = {"kl_budget", "held_out", "sampler", "vllm"}


def is_taken(settings: Settings, kind: TrainingKind) -> bool:
    """Whether the checkpoint is a model that is taken as it is and measured: nothing is trained."""
    return kind == "reward" and settings.reward.model is not None


def recipe(settings: Settings, kind: TrainingKind) -> dict[str, object]:
    """The settings that determine a training run's result, without those that the chosen algorithm does not read."""
    group: Training = getattr(settings, TRAINING_GROUP[kind])
    unread = set(NOT_IN_KEY)
    if isinstance(group, Reward):
        if group.model:  # it is the base, whatever would have trained one
            return {"taken": True, "input": group.input, "max_length": group.max_length,
                    "dtype": number_format(settings.engine.dtype).dtype}
        unread |= {"model"} | ({"controls"} if group.input == "response" else set())
    if isinstance(group, Reinforcement):
        unread |= NOT_IN_RL_KEY | ALGORITHMS[group.algorithm].unread
        unread -= {"save_every"} if group.best == "reward" else set()
    fields = type(group).model_fields
    unread |= {name for name in LATER if name in fields and getattr(group, name) == fields[name].default}
    return {**group.model_dump(mode="json", exclude=unread), "dtype": number_format(settings.engine.dtype).dtype}


def training_parts(
    settings: Settings, kind: TrainingKind, rows: pl.DataFrame, base: ModelIdentity, *, reward_model: str | None = None,
    labeller: ModelIdentity | None = None, supervised: pl.DataFrame | None = None, rewards: Sequence[Part] = (),
) -> dict[str, Any]:
    """What determines the checkpoint that training on these rows makes, by name: what its key hashes.

    ``labeller``: who grades instead of a reward model; ``supervised``: the SL rows that ``alpha`` mixes in;
    ``rewards``: the parts that principles give. A reward from another package comes with that package's name and
    version.
    """
    origin = REWARDS.origin(settings.rl.reward) if kind == "reinforcement" else None
    return {"base": base.model_dump(), "data": table_digest(rows), "settings": recipe(settings, kind),
            "seed": settings.seed, "code_version": CODE_VERSION[kind], "reward_model": reward_model,
            "labeller": labeller.model_dump() if labeller else None,
            "supervised": None if supervised is None else table_digest(supervised),
            **({"rewards": [part.counted() for part in rewards]} if rewards else {}),
            **({"reward_package": origin._asdict()} if origin else {})}


def training_key(kind: TrainingKind, parts: Mapping[str, Any]) -> str:
    """The key of the checkpoint that these ``training_parts`` determine."""
    extra = {"reward_model": parts["reward_model"]} if parts["reward_model"] else {}
    if parts["labeller"]:
        extra["labeller"] = canonical_json(parts["labeller"])
    if parts["supervised"] is not None:
        extra["supervised"] = parts["supervised"]
    if "rewards" in parts:
        extra["principles"] = canonical_json(parts["rewards"])
    if "reward_package" in parts:
        extra["reward_package"] = canonical_json(parts["reward_package"])
    return checkpoint_key(kind, code_version=parts["code_version"], rows=parts["data"],
                          base=ModelIdentity(**parts["base"]), settings=parts["settings"], seed=parts["seed"],
                          extra=extra)


def checkpoint_key(
    kind: str,
    *,
    code_version: int,
    rows: str,
    base: ModelIdentity,
    settings: Mapping[str, Any],
    seed: int,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Identity of a training run. ``rows``: digest of the training rows in canonical order."""
    return tagged_hash("k1", {
        "kind": kind, "code_version": code_version, "rows": rows, "base": base.model_dump(),
        "settings": dict(settings), "seed": seed, "extra": dict(extra or {}),
    })
