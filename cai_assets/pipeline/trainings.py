"""Each training of the graph as one function of its context, under the asset's name, as in ``stages.py``.

A stage says what a checkpoint is to be made of; Dagster trains it or finds it (``defs/launch.py``), and a plan says
which of the two it will be (``plan/training.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import polars as pl

from cai_assets.assets import LABELS
from cai_assets.constitution.model import Constitution
from cai_assets.engines.models import LocalModel, ModelChanged, identify, refuse_changed
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.evals.rubric import Part, drawn, parts_of
from cai_assets.pipeline.absent import refuse_absent
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.documents import texts_of_documents
from cai_assets.pipeline.roles import (
    Base,
    checkpoint_base,
    judge_of_responses,
    labeller,
    model_to_load,
    starting_policy,
)
from cai_assets.pipeline.stages import BEFORE_RL, HELD_OUT, mixed
from cai_assets.pipeline.votes import votes_to_train_on
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.settings import Settings
from cai_assets.steps.comparisons import Mixed, comparisons, mix_human
from cai_assets.steps.reinforce import pairs_to_train_on, prompts_to_train_on, with_requests
from cai_assets.steps.shares import Report
from cai_assets.steps.supervised import baseline_dataset
from cai_assets.steps.thoughts import THOUGHT
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.layout import Layout
from cai_assets.store.tables import Table
from cai_assets.train.choice import chosen
from cai_assets.train.fit import PART
from cai_assets.train.identity import training_key, training_parts
from cai_assets.train.job import TrainingKind

COMPARED = ("pair_id", "prompt_id", "principle_id", "messages", "chosen", "rejected", "p_chosen", "p_target", "row_id")


@dataclass(frozen=True, kw_only=True)
class Training:
    """A checkpoint to make. ``rows``: by their ids; ``data``: the columns of them that are trained on, in order.

    ``base``: None in a plan, while what it starts from is to be trained. ``labels``: the preference pairs that name
    pairs. Of reinforcement learning alone: ``reward_model``, ``labeller`` or ``judge`` rewards (``rewarded_by_model``,
    if that is still to be trained), ``rewards`` are the parts that principles give, and ``supervised`` SL rows are
    mixed in.
    """

    asset: str
    kind: TrainingKind
    rows: pl.DataFrame
    data: pl.DataFrame
    base: Base | None
    labels: pl.DataFrame | None = None
    reward_model: Checkpoint | None = None
    labeller: Base | None = None
    judge: ModelIdentity | None = None
    rewards: tuple[Part, ...] = ()
    supervised: pl.DataFrame | None = None
    rewarded_by_model: bool = False

    @property
    def start(self) -> Base:
        """The base, which must be there."""
        if self.base is None:
            raise ValueError(f"{self.asset} starts from a checkpoint that is still to be trained")
        return self.base

    def refuse_changed(self, layout: Layout) -> None:
        """Read the models that it starts from and is rewarded by, once a run. Raise ModelChanged."""
        for model in [self.start, *([self.labeller] if self.labeller else [])]:
            refuse_changed(LocalModel(model.path, model.identity), layout)
        if self.reward_model and identify(self.reward_model.path, layout, read=True).weights != self.reward_model.key:
            raise ModelChanged(f"{self.reward_model.path} is damaged: materialize reward_model again")

    @property
    def by_part(self) -> pl.DataFrame:
        """The data, with the kind of each row or who labeled it, and its principle: what the training process counts
        by."""
        column = {"texts": "kind", "supervised": "kind", "reward": "source", "reinforcement": None}[self.kind]
        told = [] if column is None else [self.rows[column].alias(PART)]
        return self.data.with_columns(told + ([self.rows["principle_id"]] if "principle" in self.data.columns else []))

    def grader(self, base: Path) -> Path | None:
        """The folder of the model whose scores are the reward, if any; ``base``, while it is to be trained."""
        if self.kind != "reinforcement":
            return None
        found = self.reward_model or self.labeller
        return found.path if found else base if self.rewarded_by_model else None

    def fitted(self, settings: Settings) -> Settings:
        """The settings with which it is done: with ``memory: auto``, those that make it fit on this machine."""
        return chosen(self.start.path, settings, self.kind, self.grader(self.start.path))

    def parts(self, settings: Settings) -> dict[str, Any]:
        """What decides the checkpoint, by name."""
        return training_parts(self.fitted(settings), self.kind, self.data, self.start.identity,
                              supervised=self.supervised,
                              reward_model=self.reward_model.key if self.reward_model else None,
                              labeller=self.labeller.identity if self.labeller else self.judge, rewards=self.rewards)


class RewardTraining(NamedTuple):
    """The reward model's training, and what became of people's comparisons."""

    training: Training
    mixed: Mixed


class Midtraining(NamedTuple):
    """The training on documents, and what became of each file of general text."""

    training: Training
    mixed: tuple[Report, ...]


def midtraining(run: Context) -> Midtraining:
    """On documents and general text, from where the SL policy would start without it."""
    texts = texts_of_documents(run)
    data = texts.frame.select(text="response")
    return Midtraining(Training(asset="mid_policy", kind="texts", rows=texts.frame, data=data, base=_start(run)),
                       texts.mixed)


def mid_policy(run: Context) -> Training:
    return midtraining(run).training


def sl_policy(run: Context) -> Training:
    return _supervised("sl_policy", run.read("sl_dataset"), _start(run, "mid_policy"), run.settings)


def _start(run: Context, *checkpoints: str) -> Base | None:
    """The first of these that the version has, None while that is to be trained; or else the policy that the round
    starts with."""
    name = run.first_had(*checkpoints)
    if name is None:
        return starting_policy(run.project, run.before())
    found = run.checkpoint(name)
    return checkpoint_base(run.project, name, found) if found else None


def sft_baseline(run: Context) -> Training:
    """Initial responses with the same mix: as many rows as the SL policy has if no chain ends early."""
    rows = baseline_rows(run.settings, run.read("initial_responses"))
    return _supervised("sft_baseline", rows, starting_policy(run.project, None), run.settings)


def baseline_rows(settings: Settings, responses: pl.DataFrame) -> pl.DataFrame:
    return mixed(settings, responses, baseline_dataset(responses, settings.supervised, settings.critique.rounds)).frame


def _supervised(asset: str, rows: pl.DataFrame, base: Base | None, settings: Settings) -> Training:
    data = _supervised_columns(rows)
    if THOUGHT in rows.columns and base is not None and base.identity.keeps_thoughts:
        mode = "thought_given" if settings.supervised.thoughts == "mask" else "thought_learned"
        data = data.with_columns(rows[THOUGHT].alias(mode))
    return Training(asset=asset, kind="supervised", rows=rows, data=data, base=base)


def _supervised_columns(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("messages", "response")


def reward_model(run: Context) -> RewardTraining:
    """On AI-labeled comparisons, with human ones if set."""
    run.may_train(LABELS)
    reward = run.settings.reward
    labels = run.read(LABELS, *(() if reward.input == "principle" else COMPARED))
    if reward.input == "principle":
        run.note("constitution")

    base = model_to_load(run.project, reward.model) if reward.model else starting_policy(run.project, None)

    def training(rows: pl.DataFrame) -> Training:
        return Training(asset="reward_model", kind="reward", rows=rows, labels=labels, data=reward_columns(rows),
                        base=base)

    def is_trained(rows: pl.DataFrame) -> bool:
        key = training_key("reward", training(rows).parts(run.settings))
        return run.project.checkpoints.whole("reward_model", key) is not None

    rows = (Mixed(votes_to_train_on(run, labels, is_trained)) if reward.input == "principle" else
            reward_comparisons(run.settings, labels, run.table("starting_responses")))
    return RewardTraining(training(rows.frame), rows)


def reward_comparisons(settings: Settings, labeled: pl.DataFrame, responses: Table) -> Mixed:
    """``responses``: the round's first, which know its prompts."""
    reward = settings.reward
    rows = comparisons(labeled, reward.held_out)
    if reward.human is None:
        return Mixed(rows)
    evaluation = responses.read("messages", where=HELD_OUT)
    return mix_human(rows, reward.human, held_out=reward.held_out, evaluation=evaluation)


def reward_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of the reward model's comparisons that decide its training."""
    return rows.select("messages", "chosen", "rejected", "p_chosen", "held_out", *(
        ["principle"] if "principle" in rows.columns else []))


def rl_policy(run: Context) -> Training:
    """By ``rl.algorithm``, which says what is read, rewarded as ``rl.reward`` says, with ``rl.alpha`` of SL rows."""
    rl = run.settings.rl
    algorithm, rewarded_by = ALGORITHMS[rl.algorithm], REWARDS[rl.reward].runs
    base = _start(run, *BEFORE_RL)
    preferences = run.checkpoint("reward_model") if rewarded_by == "reward_model" else None
    run.note("constitution")
    pairs = run.read(algorithm.reads, *(COMPARED if algorithm.reads == LABELS else ("prompt_id", "messages")))
    rows = reinforcement_rows(run.settings, run.constitution, pairs)
    if rl.alpha is not None:
        refuse_absent(run.constitution, "sl_dataset", f"rl.alpha={rl.alpha:g} mixes supervised rows in")
    supervised = None if rl.alpha is None else _supervised_columns(run.read("sl_dataset"))
    if not algorithm.online or rewarded_by in {"labeller", "engine"}:  # else the reward model, between, was refused
        run.may_train(LABELS)
    return Training(
        asset="rl_policy", kind="reinforcement", rows=rows, data=reinforcement_columns(rows), supervised=supervised,
        base=base,
        labels=None if algorithm.online else pairs, reward_model=preferences,
        rewarded_by_model=rewarded_by == "reward_model",
        labeller=labeller(run.project) if rewarded_by == "labeller" else None,
        judge=judge_of_responses(run.project).identity if rewarded_by == "engine" else None,
        rewards=parts_of(run.constitution, questions=rewarded_by == "engine", checks=rl.checks, few=rl.principles,
                         undecided=run.settings.labels.undecided,
                         scored=rewarded_by == "reward_model" and run.settings.reward.input == "principle"))


def reinforcement_rows(settings: Settings, constitution: Constitution, pairs: pl.DataFrame) -> pl.DataFrame:
    """Each prompt once, or for DPO each graded pair, in canonical order, with the held-out prompts marked.

    ``pairs``: the table that the algorithm reads. For a reward that reads requests, each row has its own.
    """
    rl, algorithm = settings.rl, ALGORITHMS[settings.rl.algorithm]
    match algorithm.reads:
        case "response_pairs":
            rows = prompts_to_train_on(pairs, rl.held_out)
        case "preference_pairs":
            rows = pairs_to_train_on(pairs, rl.held_out)
        case _:
            assert_never(algorithm.reads)
    columns = REWARDS[rl.reward].columns
    if "principles" in columns:
        asked = drawn(constitution, rows["prompt_id"].to_list(), rl.principles)
        return rows.with_columns(pl.Series("principles", asked, dtype=pl.List(pl.String)))
    if "request" not in columns:
        return rows
    # An algorithm that samples nothing to train on has only responses to the held-out prompts graded.
    return with_requests(rows, constitution, held_out=not algorithm.online)


def reinforcement_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of reinforcement learning's rows that decide its training."""
    return rows.drop("pair_id", "prompt_id", "graded_by", strict=False)
