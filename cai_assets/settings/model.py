"""All settings in one tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from cai_assets.settings.base import OWN_HAND, Group, InProject
from cai_assets.settings.method import (
    Critique,
    Engine,
    Evaluation,
    Gate,
    Generation,
    Labels,
    Monitors,
    Pairs,
    Prompts,
    Supervised,
)
from cai_assets.settings.models import Models, Server
from cai_assets.settings.training import Reinforcement, Reward, Training

Scale = Literal["smoke", "small", "full"]


class Launchpad(Group):
    """What the config of a run may reach besides the project: files and models in these ``folders``."""

    folders: tuple[InProject, ...] = ()


class Settings(Group):
    """Everything. ``fresh_weekly``: the weekly schedule resamples, with the ISO week as the seed. ``servers``: names
    for models' ``base_urls`` and ``api_key_env``, by which the config of a run may choose them. ``accept_loss``: lost
    calls of each asset with which a training still starts: below 1 a share of its calls, from 1 on a number of them.

    Prices affect only reports: what a GPU hour and an hour of a human labeler cost, and how many comparisons a person
    labels per hour.
    """

    scale: Scale = "smoke"
    data_root: Annotated[InProject, OWN_HAND] = Field(default=Path("data"), validate_default=True)
    constitutions: Annotated[InProject, OWN_HAND] = Field(default=Path("constitutions"), validate_default=True)
    servers: Annotated[dict[str, Server], OWN_HAND] = Field(default_factory=dict)
    launchpad: Annotated[Launchpad, OWN_HAND] = Launchpad()
    seed: int = Field(default=0, ge=0)
    fresh_weekly: bool = False
    accept_loss: float = Field(default=0.0, ge=0)
    price_per_gpu_hour: float | None = Field(default=None, ge=0)
    price_per_human_hour: float | None = Field(default=None, ge=0)
    human_labels_per_hour: float = Field(default=60.0, gt=0)
    models: Models = Models()
    engine: Engine = Engine()
    prompts: Prompts = Prompts()
    generation: Generation = Generation()
    critique: Critique = Critique()
    supervised: Supervised = Supervised()
    pairs: Pairs = Pairs()
    labels: Labels = Labels()
    sl: Training = Training()
    reward: Reward = Reward()
    rl: Reinforcement = Reinforcement()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    monitors: Monitors = Monitors()

    @field_validator("servers")
    @classmethod
    def _have_an_address(cls, servers: dict[str, Server]) -> dict[str, Server]:
        for name, server in servers.items():
            if not server.base_urls:
                raise ValueError(f"{name!r} has no base_urls; name at least one server")
        return servers
