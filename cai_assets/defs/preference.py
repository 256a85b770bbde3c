"""AI feedback: response pairs, labels, the reward model."""

import dagster as dg
import polars as pl

from cai_assets import stages
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.inputs import OWNERS, TAGS, constitution, registered, starting_responses
from cai_assets.defs.launch import train
from cai_assets.defs.making import Making
from cai_assets.defs.metadata import curve_metadata, text_preview
from cai_assets.defs.partitions import versions
from cai_assets.defs.supervised import sl_policy
from cai_assets.engines.models import prepare
from cai_assets.project import Project
from cai_assets.reports.checkpoint import principle_rows
from cai_assets.start import Base

GROUP = "preference"


@dg.asset(group_name=GROUP, kinds={"vllm", "polars"}, owners=OWNERS, code_version="1", partitions_def=versions,
          deps=[starting_responses, sl_policy], tags=TAGS, pool="gpu", automation_condition=on_real_change())
def response_pairs(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """Two samples of the SL policy for each training prompt. Identical pairs are marked and never labelled."""
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    policy = made.checkpoint("sl_policy")
    frame = stages.response_pairs(settings, made.read("starting_responses"),
                                  complete=made.completer(project.engines.open_checkpoint(policy.path)))
    return made.table("response_pairs", frame, settings={"pairs": settings.pairs}, metadata={
        **text_preview(frame, {"messages": "prompt", "response_a": "A", "response_b": "B"}),
        "identical": frame["identical"].sum()})


@dg.asset(group_name=GROUP, kinds={"vllm", "polars"}, owners=OWNERS, code_version="1", partitions_def=versions,
          deps=[constitution, response_pairs], tags=TAGS, pool="gpu", automation_condition=on_real_change())
def preference_pairs(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[None]:
    """AI labels: each pair judged by one drawn principle, in both orders, by exact answer probabilities."""
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    made.record("constitution")
    frame = stages.preference_pairs(settings, registered(project, context.partition_key), made.read("response_pairs"),
                                    complete=made.completer(project.engines.open(settings.models.role("labeller"))))
    labels = dict(frame["label"].value_counts().sort("label").iter_rows())
    used = {"labels": settings.labels, "models": settings.models}
    return made.table("preference_pairs", frame, settings=used, metadata={
        **text_preview(frame.filter(pl.col("chosen").is_not_null()),
                       {"principle_id": "principle", "chosen": "chosen", "rejected": "rejected"}),
        "labels": dg.MetadataValue.json(labels), **label_metadata(frame)})


def label_metadata(frame: pl.DataFrame) -> dict[str, float | int]:
    """How the labeller behaved: how often both orders agree, and how often it picks the first place."""
    graded = frame.filter(pl.col("p_a").is_not_null())
    if not graded.height:
        return {"graded": 0}
    agree = graded.filter(pl.col("label") != "tie").height
    first = sum(graded.filter(chosen).height for chosen in (pl.col("p_a_first") > 0.5, pl.col("p_a_second") < 0.5))
    return {"graded": graded.height, "order_consistency": round(agree / graded.height, 4),
            "picks_first_place": round(first / (2 * graded.height), 4)}


@dg.asset(group_name=GROUP, kinds={"pytorch", "huggingface"}, owners=OWNERS, code_version="1",
          partitions_def=versions, deps=[preference_pairs], tags=TAGS, pool="gpu",
          automation_condition=on_real_change())
def reward_model(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """A scalar head on the starting policy, trained to prefer what the labels prefer."""
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    rows = stages.reward_comparisons(settings, made.read("preference_pairs"))
    model = settings.models.role("policy")
    local = prepare(model, project.layout)
    counts = dict(rows["principle_id"].value_counts().iter_rows())
    principles = principle_rows(registered(project, context.partition_key), counts, "preference")
    done = train(context, project, asset="reward_model", kind="reward",
                 base=Base(model.source, local.path, local.identity),
                 rows=stages.reward_training(rows),
                 card={"constitution": context.partition_key, "principles": principles,
                       "rows_by_kind": {"AI-labelled comparisons": rows.height}})
    return made.trained("reward_model", done.checkpoint, reused=done.reused, seconds=done.seconds, rows=rows.height,
                        settings={"reward": settings.reward}, metadata={
                            **curve_metadata(done.checkpoint, ("loss", "accuracy")),
                            "held_out": dg.MetadataValue.json(done.checkpoint.metrics)})


assets = [response_pairs, preference_pairs, reward_model]
