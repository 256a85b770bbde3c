"""The contract between whoever requests a training run and the process that performs it.

The requester writes a job file and the data; the process writes ``<work>/final`` (a Hugging Face folder),
``<work>/curves.jsonl`` (one JSON object per step) and ``<work>/metrics.json``, and exits 0; or it writes
``<work>/error.txt`` and exits 1. Checkpoints to resume from are under ``<work>/state``. Only the requester
gives the result its final name.

Data, one Parquet file:

=============  ==========================================================================================
texts          ``text`` str, all of which is learned
supervised     ``messages`` list[struct[role, content]] (ends with the user), ``response`` str; if there, one of
               ``thought_given`` and ``thought_learned`` str: what was thought before the response
reward         ``messages``, ``chosen`` str, ``rejected`` str, ``p_chosen`` float in [0, 1], ``held_out`` bool; where it
               reads principles also ``principle`` str, its text, and ``principle_id`` str
reinforcement  ``messages``, ``held_out`` bool; where the reward reads it also ``request`` str, what to grade by, or
               ``principles`` list[str], whose questions are asked
               (an algorithm that reads pairs: the columns of ``reward`` too)
all            ``part`` str, if there: what kind of row each is, by which those that are too long are counted
=============  ==========================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cai_assets.engines.number_format import Format
from cai_assets.engines.protocol import Style
from cai_assets.evals.rubric import Part
from cai_assets.settings import Engine, Model, Nodes
from cai_assets.settings.model import Tracker

TrainingKind = Literal["texts", "supervised", "reward", "reinforcement"]

# Bump a number when the meaning of that stage's code changes: checkpoints made before are then no longer reused.
CODE_VERSION: dict[TrainingKind, int] = {"texts": 1, "supervised": 2, "reward": 2, "reinforcement": 2}


class Judge(BaseModel):
    """Who answers the questions of ``rewards``, and where the answers are kept: the row store of ``data_root``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Model
    engine: Engine
    data_root: str | Path
    style: Style


class Reports(BaseModel):
    """Who draws the curves: ``to``, the ``run``'s name there, and the ``folder`` of those that keep files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: tuple[Tracker, ...]
    run: str
    folder: Path


class Job(BaseModel):
    """One training run. All paths are absolute. ``settings`` is the dump of the stage's settings group.

    ``reward_model``, ``labeller`` or ``judge`` gives the reward of reinforcement learning, and ``rewards`` are the
    parts of it that principles give; ``supervised_data`` (columns of ``supervised``) is there when ``alpha`` is set.
    ``general_text``: JSONL with ``text``, for the ability check, of which at most ``general_texts`` are read.
    ``base_weights``, ``thinking``: ``weights`` and ``thinking`` of the base, as in ``ModelIdentity``. ``nodes``: where
    it runs on several machines, started by Ray if there is an ``engine``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: TrainingKind
    key: str
    base: Path
    data: Path
    work: Path
    settings: dict[str, Any]
    seed: int = 0
    dtype: Format
    base_weights: str = ""
    thinking: str = ""
    reward_model: Path | None = None
    labeller: Path | None = None
    rewards: tuple[Part, ...] = ()
    judge: Judge | None = None
    supervised_data: Path | None = None
    general_text: Path | None = None
    general_texts: int | None = None
    reports: Reports | None = None
    nodes: Nodes | None = None
    engine: Engine | None = None

    @property
    def final(self) -> Path:
        return self.work / "final"

    @property
    def state(self) -> Path:
        return self.work / "state"

    @property
    def curves(self) -> Path:
        return self.work / "curves.jsonl"

    @property
    def error(self) -> Path:
        return self.work / "error.txt"

    @property
    def metrics(self) -> Path:
        return self.work / "metrics.json"

    @property
    def said(self) -> Path:
        """What the first of several processes says, where it is on another machine than who started it."""
        return self.work / "said.txt"
