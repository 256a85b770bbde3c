"""All settings in one tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from cai_assets.settings.base import OWN_HAND, DataRoot, Group, InProject
from cai_assets.settings.method import (
    Critique,
    Documents,
    Engine,
    Evaluation,
    Gate,
    Generation,
    Labels,
    Monitors,
    Pairs,
    Prompts,
    Stress,
    Supervised,
    Written,
)
from cai_assets.settings.models import Models, Server
from cai_assets.settings.training import Midtraining, Nodes, Reinforcement, Reward, Training, Tuning

Scale = Literal["smoke", "small", "full"]
Tracker = Literal["tensorboard", "trackio", "wandb"]


class Launchpad(Group):
    """What the config of a run may reach besides the project."""

    folders: tuple[InProject, ...] = ()
    """Folders outside the project from which the config of a run may name files and models."""


class Settings(Group):
    """Everything."""

    scale: Scale = "smoke"
    """The dial from which every other default derives: smoke shows the machinery, full has the paper's proportions."""
    data_root: Annotated[DataRoot, OWN_HAND] = Field(default=Path("data"), validate_default=True)
    """Folder for models, rows, tables, checkpoints, and records, or a place in an object store, such as
    s3://BUCKET/PREFIX."""
    constitutions: Annotated[InProject, OWN_HAND] = Field(default=Path("constitutions"), validate_default=True)
    """Folder of the constitution files."""
    servers: Annotated[dict[str, Server], OWN_HAND] = Field(default_factory=dict)
    """Names for servers and their keys, by which the config of a run may choose them."""
    launchpad: Annotated[Launchpad, OWN_HAND] = Launchpad()
    """What the config of a run may reach besides the project."""
    seed: int = Field(default=0, ge=0)
    """Seed of all sampling, drawing, and training. Enters row keys."""
    fresh_weekly: bool = False
    """Whether the weekly schedule resamples, with the ISO week as the seed."""
    accept_loss: float = Field(default=0.0, ge=0)
    """Lost calls of each asset with which a training still starts: below 1 a share of its calls, from 1 on a number of
    them."""
    price_per_gpu_hour: float | None = Field(default=None, ge=0)
    """Cost of a GPU hour. It affects only reports."""
    price_per_human_hour: float | None = Field(default=None, ge=0)
    """Cost of an hour of a human labeler. It affects only reports."""
    human_labels_per_hour: float = Field(default=60.0, gt=0)
    """Comparisons that a person labels in an hour. It affects only reports."""
    report_to: Annotated[tuple[Tracker, ...], OWN_HAND] = ()
    """Where trainings draw their curves while they run, beside their checkpoints: tensorboard, trackio, wandb. It
    enters no key."""
    models: Models = Models()
    """Who does what."""
    engine: Engine = Engine()
    """How models are run."""
    prompts: Prompts = Prompts()
    """Which prompts take part."""
    written: Written = Written()
    """Prompts that a model writes from the training prompts, beside these."""
    generation: Generation = Generation()
    """Sampling of responses, critiques, and revisions."""
    critique: Critique = Critique()
    """The critique and revision loop (Bai et al. 2022, section 3.1)."""
    documents: Documents = Documents()
    """Documents about the principles, which the policy is trained on before supervised learning."""
    supervised: Supervised = Supervised()
    """What the SL policy is trained on."""
    pairs: Pairs = Pairs()
    """Response pairs."""
    labels: Labels = Labels()
    """AI preference labels (Bai et al. 2022, section 4.1)."""
    mid: Midtraining = Midtraining()
    """Training on the documents, before that of the SL policy."""
    sl: Tuning = Tuning()
    """Training of the SL policy and of the plain SFT baseline."""
    reward: Reward = Reward()
    """Training of the reward model."""
    rl: Reinforcement = Reinforcement()
    """The reinforcement stage, with a KL penalty to the SL policy."""
    train: Nodes = Nodes()
    """Trainings on several machines."""
    evaluation: Evaluation = Evaluation()
    """Evaluation of finished policies on held-out prompts and suites."""
    stress: Stress = Stress()
    """The search for principles that contradict each other. Off by default."""
    gate: Gate = Gate()
    """The judge gate: the labeler must agree with people before its labels train anything."""
    monitors: Monitors = Monitors()
    """Limits of the reward-hacking monitors."""

    @field_validator("servers")
    @classmethod
    def _have_an_address(cls, servers: dict[str, Server]) -> dict[str, Server]:
        for name, server in servers.items():
            if not server.base_urls:
                raise ValueError(f"{name!r} has no base_urls; name at least one server")
        return servers

    @model_validator(mode="after")
    def _divided(self) -> Self:
        nodes, groups = self.train.nodes, {"mid": self.mid, "sl": self.sl, "reward": self.reward, "rl": self.rl}
        for name, group in groups.items():
            if group.processes > 1 and group.processes % nodes:
                raise ValueError(f"{name}.processes={group.processes} cannot be divided evenly among train.nodes="
                                 f"{nodes}: set a multiple of {nodes}, such as the number of GPUs of all of them, or 1")
        if nodes > 1 and all(group.processes == 1 for group in groups.values()):
            raise ValueError(f"train.nodes={nodes} divides processes, and every training has one: set sl.processes, "
                             "reward.processes, and rl.processes to the number of GPUs of all nodes")
        return self

    def nodes_of(self, group: Training) -> int:
        """Machines among which a training is divided: one with one process is on that of the run, and so is a program
        that may divide itself."""
        return self.train.nodes if group.processes > 1 and group.here else 1

    @model_validator(mode="after")
    def _one_arm(self) -> Self:
        usual = Critique()
        changed = [n for n in ("mode", "stop_above", "shuffle") if getattr(self.critique, n) != getattr(usual, n)]
        if self.sl.source == "in_context" and changed:
            raise ValueError(f"sl.source='in_context' asks for no critique, so critique.{changed[0]} decides nothing: "
                             "leave one of both out")
        return self
