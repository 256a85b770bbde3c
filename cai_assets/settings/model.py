"""All settings in one tree."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cai_assets.settings.base import Group, InProject
from cai_assets.settings.method import (
    Critique,
    Engine,
    Evaluation,
    Gate,
    Generation,
    Labels,
    Models,
    Monitors,
    Pairs,
    Prompts,
    Supervised,
)
from cai_assets.settings.training import Reinforcement, Reward, Training

Scale = Literal["smoke", "small", "full"]


class Settings(Group):
    """Everything. ``fresh_weekly``: the weekly schedule resamples, with the ISO week as the seed.

    Prices affect only reports: what a GPU hour and an hour of a human labeler cost, and how many comparisons a person
    labels per hour.
    """

    scale: Scale = "smoke"
    data_root: InProject = Field(default=Path("data"), validate_default=True)
    constitutions: InProject = Field(default=Path("constitutions"), validate_default=True)
    seed: int = Field(default=0, ge=0)
    fresh_weekly: bool = False
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
