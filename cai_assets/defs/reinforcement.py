"""Reinforcement learning from AI feedback: the RL policy."""

from typing import Any

import dagster as dg
import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.defs.declared import declared
from cai_assets.defs.gate import refuse_unfit_labeller
from cai_assets.defs.inputs import registered
from cai_assets.defs.launch import train
from cai_assets.defs.making import Making
from cai_assets.defs.metadata import curve_metadata
from cai_assets.engines.models import identify
from cai_assets.pipeline import stages
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import Base, labeller
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.reports.checkpoint import principle_rows


@dg.asset(**declared("rl_policy"))
def rl_policy(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """The RL-CAI policy, from the SL policy by PPO, GRPO, RLOO or DPO, held near it by a KL penalty.

    ``rl.algorithm`` chooses. The reward model gives the reward, or the labeller itself does (``rl.reward``).
    """
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    algorithm, runs = ALGORITHMS[settings.rl.algorithm], REWARDS[settings.rl.reward].runs
    start = made.checkpoint("sl_policy")
    preferences = made.checkpoint("reward_model") if runs == "reward_model" else None
    made.record("constitution")
    version = registered(project, context.partition_key)
    pairs = made.read(algorithm.reads)
    rows = stages.reinforcement_rows(settings, version, pairs)
    supervised = None if settings.rl.alpha is None else stages.supervised_training(made.read("sl_dataset"))
    if not algorithm.online or runs == "labeller":  # otherwise the reward model stands between, and was refused
        refuse_unfit_labeller(project, made.record("preference_pairs"))
    made.trains_on(rows, None if algorithm.online else pairs)
    done = train(made, asset="rl_policy", kind="reinforcement", rows=stages.reinforcement_training(rows),
                 supervised=supervised,
                 base=Base("sl_policy", start.path, identify(start.path, project.layout)),
                 reward_model=preferences, labeller=labeller(project) if runs == "labeller" else None,
                 card={"constitution": context.partition_key,
                       "principles": preferences.record["principles"] if preferences else _shaped(version, rows, pairs),
                       "rows_by_kind": {"prompts" if algorithm.online else "pairs": rows.height,
                                        **({} if supervised is None else {"supervised": supervised.height})}})
    return made.trained("rl_policy", done.checkpoint, reused=done.reused, seconds=done.seconds, rows=rows.height,
                        metadata=curve_metadata(done.checkpoint, algorithm.curves))


def _shaped(constitution: Constitution, rows: pl.DataFrame, pairs: pl.DataFrame) -> list[dict[str, Any]]:
    """The principles by whose requests the labeller grades, or labeled the pairs, with the number of rows of each."""
    counts: dict[str, int] = {}
    if "graded_by" in rows.columns:
        counts = dict(rows["graded_by"].drop_nulls().value_counts().iter_rows())
    elif "principle_id" in pairs.columns:
        labels = rows.join(pairs.select("pair_id", "principle_id"), on="pair_id")
        counts = dict(labels["principle_id"].drop_nulls().value_counts().iter_rows())
    return principle_rows(constitution, counts, "preference")


assets = [rl_policy]
