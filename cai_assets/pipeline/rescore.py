"""Stored rollouts of a version's RL policy under another constitution: what is asked, and what comes out."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.evals.rescore import Rescored, Side, rescored
from cai_assets.evals.rubric import RUBRIC, Response, drawn, parts_of, scores, table
from cai_assets.lineage.rollouts import ROLLOUTS
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import judge_of_responses
from cai_assets.settings import Reinforcement
from cai_assets.steps.complete import Completer, Log
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import Record


class CannotRescore(CaiError, ValueError):
    """A version's rollouts were not kept, or their reward is no function of a response and a principle."""


class Scoring(NamedTuple):
    """The rollouts of a record, and the settings by which they were rewarded."""

    record: Record
    rollouts: pl.DataFrame
    rl: Reinforcement


def scoring_of(project: Project, version: str) -> Scoring:
    """The newest RL policy's. Raise RecordMissing, or CannotRescore with what to do."""
    record = project.records.latest("rl_policy", version)
    rl = Reinforcement.model_validate(record.settings["rl"])
    if rl.reward != "rubric":
        raise CannotRescore(
            f"{record.ref.id} has rl.reward={rl.reward}, which is no sum of scores by principle; for rollouts "
            f"that can be scored again: cai materialize {version} --select rl_policy -s rl.reward=rubric")
    if ROLLOUTS not in record.details:
        raise CannotRescore(f"{record.ref.id} has no stored rollouts: materialize rl_policy again")
    return Scoring(record, read_parquet(project.layout.absolute(record.details[ROLLOUTS])), rl)


def side_of(project: Project, found: Scoring, constitution: Constitution, complete: Completer) -> Side:
    """The scores of every rollout by a constitution. Stored ones cost nothing."""
    prompts, rl = found.rollouts["prompt_id"].to_list(), found.rl
    parts = parts_of(constitution, questions=True, checks=rl.checks, few=rl.principles,
                     undecided=project.settings.labels.undecided)
    asked = drawn(constitution, prompts, rl.principles)
    responses = [Response(r["messages"], r["response"], names)
                 for r, names in zip(found.rollouts.iter_rows(named=True), asked, strict=True)]
    given = scores(responses, parts, ask=partial(complete, RUBRIC, what="rubric"), style=project.settings.labels.style)
    return Side(parts, table(given))


def judge(project: Project, log: Log = lambda _: None) -> Completer:
    """Who answered, and answers again."""
    return Completer(judge_of_responses(project), project.store, seed=project.settings.seed, log=log)


def rescore(project: Project, found: Scoring, new: Constitution, complete: Completer) -> Rescored:
    """Both sides, compared."""
    old = project.snapshots.load(str(found.record.partition))
    rows = found.rollouts.select("prompt_id", "response").to_dicts()
    return rescored(rows, side_of(project, found, old, complete), side_of(project, found, new, complete),
                    confidence=project.settings.evaluation.confidence)
