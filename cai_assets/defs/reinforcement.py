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
from cai_assets.reports.checkpoint import principle_rows

CURVES = ("reward", "score", "held_out_reward", "kl", "beta", "policy_loss", "value_loss", "sl_loss", "margin",
          "response_length", "repetition", "entropy")


@dg.asset(**declared("rl_policy"))
def rl_policy(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """The RL-CAI policy, from the SL policy by PPO, GRPO, RLOO or DPO, held near it by a KL penalty.

    ``rl.algorithm`` chooses. The reward model gives the reward, or the labeller itself does (``rl.reward``).
    """
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    start, by_labeller = made.checkpoint("sl_policy"), settings.rl.reward == "labeller"
    preferences = None if by_labeller else made.checkpoint("reward_model")
    dpo = settings.rl.algorithm == "dpo"
    made.record("constitution")
    version = registered(project, context.partition_key)
    pairs = made.read("preference_pairs" if dpo else "response_pairs")
    rows = stages.reinforcement_rows(settings, version, pairs)
    supervised = None if settings.rl.alpha is None else stages.supervised_training(made.read("sl_dataset"))
    if dpo or by_labeller:  # otherwise the reward model stands between, and was refused
        refuse_unfit_labeller(project, made.record("preference_pairs"))
    made.trains_on(rows, pairs if dpo else None)
    done = train(made, asset="rl_policy", kind="reinforcement", rows=stages.reinforcement_training(rows),
                 supervised=supervised,
                 base=Base("sl_policy", start.path, identify(start.path, project.layout)),
                 reward_model=preferences, labeller=labeller(project) if by_labeller else None,
                 card={"constitution": context.partition_key,
                       "principles": preferences.record["principles"] if preferences else _graded(version, rows),
                       "rows_by_kind": {"pairs" if dpo else "prompts": rows.height,
                                        **({} if supervised is None else {"supervised": supervised.height})}})
    return made.trained("rl_policy", done.checkpoint, reused=done.reused, seconds=done.seconds, rows=rows.height,
                        metadata=curve_metadata(done.checkpoint, CURVES))


def _graded(constitution: Constitution, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The principles by whose requests the labeller grades, with the number of rows of each."""
    return principle_rows(constitution, dict(rows["graded_by"].drop_nulls().value_counts().iter_rows()), "preference")


assets = [rl_policy]
