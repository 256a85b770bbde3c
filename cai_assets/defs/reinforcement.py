"""Reinforcement learning from AI feedback: the RL policy."""

import dagster as dg

from cai_assets import stages
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.inputs import OWNERS, TAGS
from cai_assets.defs.launch import Base, train
from cai_assets.defs.making import Making
from cai_assets.defs.metadata import curve_metadata
from cai_assets.defs.partitions import versions
from cai_assets.defs.preference import response_pairs, reward_model
from cai_assets.defs.supervised import sl_policy
from cai_assets.engines.models import identify
from cai_assets.project import Project

CURVES = ("reward", "score", "kl", "policy_loss", "value_loss", "entropy")


@dg.asset(group_name="reinforcement", kinds={"pytorch", "huggingface"}, owners=OWNERS, code_version="1",
          partitions_def=versions, deps=[sl_policy, response_pairs, reward_model], tags=TAGS, pool="gpu",
          automation_condition=on_real_change())
def rl_policy(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """The RL-CAI policy: PPO from the SL policy against the reward model, held near the SL policy by a KL penalty."""
    made = Making(context, project, partition=context.partition_key)
    start, judge = made.checkpoint("sl_policy"), made.checkpoint("reward_model")
    prompts = stages.reinforcement_training(made.read("response_pairs"))
    identity = identify(start.path, project.layout)
    done = train(context, project, asset="rl_policy", kind="reinforcement", rows=prompts,
                 base=Base("sl_policy", start.path, identity), reward_model=judge,
                 card={"constitution": context.partition_key, "principles": judge.record["principles"],
                       "rows_by_kind": {"prompts": prompts.height}})
    return made.trained("rl_policy", done.checkpoint, reused=done.reused, seconds=done.seconds, rows=prompts.height,
                        settings={"rl": project.settings.rl}, metadata=curve_metadata(done.checkpoint, CURVES))


assets = [rl_policy]
