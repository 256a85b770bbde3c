"""The supervised phase: critiques, revisions, their data set, the SL policy, and plain SFT beside it."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from cai_assets.defs.declared import POOL, declared, spec
from cai_assets.defs.inputs import registered
from cai_assets.defs.launch import train
from cai_assets.defs.making import Making
from cai_assets.defs.metadata import curve_metadata, revision_preview, text_preview
from cai_assets.defs.partitions import versions
from cai_assets.defs.supervised_metadata import mix_metadata, stop_metadata
from cai_assets.pipeline import stages
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import Base, critic, starting_policy
from cai_assets.reports.checkpoint import principle_rows
from cai_assets.steps.complete import total


@dg.multi_asset(name="critique_and_revise", partitions_def=versions, pool=POOL,
                specs=[spec("critiques"), spec("revisions")])
def critique_revise(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> Iterator[dg.MaterializeResult[None]]:
    """Round k+1 critiques the revision of round k, so both come from one step."""
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    made.record("constitution")
    responses = made.read("starting_responses")
    critiques, revisions = stages.critiques_and_revisions(
        settings, registered(project, context.partition_key), responses,
        complete=made.completer(critic(project, made.before())))
    steps = [made.usage[s] for s in ("critique", "verdict") if s in made.usage]
    made.usage["critique"] = total(steps)  # the verdicts are calls of the critic, and counted with its critiques
    yield made.table("critiques", critiques, step="critique", metadata={
        **stop_metadata(critiques),
        **text_preview(critiques.drop_nulls("critique"), {"principle_id": "principle", "critique": "critique"}),
        "rows_per_principle": dg.MetadataValue.json(dict(critiques["principle_id"].value_counts().sort(
            "principle_id").iter_rows()))})
    made.record("critiques")
    yield made.table("revisions", revisions, step="revision",
                     metadata={**stop_metadata(revisions), **revision_preview(responses, revisions)})


@dg.asset(**declared("sl_dataset"))
def sl_dataset(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """What the SL policy is trained on: revised responses of every round (or the last), helpful and general ones."""
    made = Making(context, project, partition=context.partition_key)
    revisions = made.read("revisions")
    frame, mixed = stages.supervised_rows(project.settings, made.read("starting_responses"), revisions)
    for report in mixed:
        if report.warning:
            context.log.warning(report.warning)
    without = revisions.group_by("prompt_id").agg(pl.col("revision").count()).filter(pl.col("revision") == 0)
    return made.table("sl_dataset", frame, metadata={
        **text_preview(frame, {"messages": "prompt", "response": "response"}),
        "truncated": frame.filter(pl.col("finish") == "length").height,
        "revised": frame.filter(pl.col("round") > 0).height, **_of_each_kind(frame),
        "chains_without_a_revision": without.height, **mix_metadata(mixed)})


@dg.asset(**declared("sl_policy"))
def sl_policy(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """The SL-CAI policy: the starting policy after supervised training on the revisions (Bai et al. 2022, 3.2)."""
    made = Making(context, project, partition=context.partition_key)
    rows = made.read("sl_dataset")
    counts = dict(rows["principle_id"].drop_nulls().value_counts().iter_rows())
    card = {"constitution": context.partition_key,
            "principles": principle_rows(registered(project, context.partition_key), counts, "critique")}
    return _supervised(made, "sl_policy", rows, starting_policy(project, made.before()), card)


@dg.asset(**declared("sft_baseline"))
def sft_baseline(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """Plain supervised fine-tuning on initial responses: the same prompts, the same number of rows, no constitution."""
    made = Making(context, project, partition=None)
    settings = project.settings
    rows = stages.baseline_rows(settings, made.read("initial_responses"))
    return _supervised(made, "sft_baseline", rows, starting_policy(project, None),
                       {"constitution": None, "principles": []})


def _supervised(
    made: Making, asset: str, rows: pl.DataFrame, base: Base, card: dict[str, object]
) -> dg.MaterializeResult[None]:
    by_kind = {"revisions or responses to red-team prompts": rows.filter(pl.col("kind") == "red-team").height,
               "responses to helpful prompts": rows.filter(pl.col("kind") == "helpful").height,
               "general conversations": rows.filter(pl.col("kind") == "general").height}
    made.trains_on(rows)
    done = train(made, asset=asset, kind="supervised", rows=stages.supervised_training(rows),
                 base=base, card={**card, "rows_by_kind": by_kind})
    return made.trained(asset, done.checkpoint, reused=done.reused, seconds=done.seconds, rows=rows.height,
                        metadata={**_of_each_kind(rows), **curve_metadata(done.checkpoint, ("loss",))})


def _of_each_kind(rows: pl.DataFrame) -> dict[str, int]:
    """Rows that are helpful responses and general conversations."""
    return {kind: rows.filter(pl.col("kind") == kind).height for kind in ("helpful", "general")}


assets = [critique_revise, sl_dataset, sl_policy, sft_baseline]
