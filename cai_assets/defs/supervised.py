"""The supervised phase: critiques, revisions, their data set, the SL policy, and plain SFT beside it."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.assets import ASSETS, OPTIONAL
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.declared import POOL, asset, spec
from cai_assets.defs.launch import train
from cai_assets.defs.metadata import curve_metadata, revision_preview, text_preview
from cai_assets.defs.partitions import versions
from cai_assets.defs.records import keep, keep_all, record_checkpoint, store_table
from cai_assets.defs.run import Run
from cai_assets.defs.supervised_metadata import mix_metadata, mix_notes, stop_metadata
from cai_assets.pipeline import stages, trainings
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.trainings import Training
from cai_assets.reports.checkpoint import principle_rows
from cai_assets.steps.thoughts import THOUGHT
from cai_assets.steps.usage import total


@dg.multi_asset(name="critique_and_revise", partitions_def=versions, pool=POOL,
                specs=[spec("critiques"), spec("revisions")])
def critique_revise(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> Iterator[dg.MaterializeResult[None]]:
    """Round k+1 critiques the revision of round k, so both come from one step. With ``sl.source=in_context`` there are
    answers in the place of revisions, and the records say so in the settings of ``sl``."""
    run = Run(context, project)
    left_out = [found for asset in ("critiques", "revisions") if (found := run.leave_out(asset))]
    if left_out:
        yield from left_out
        return
    critiques, revisions = keep_all(run, ["critiques", "revisions"], stages.critiques_and_revisions(run))
    also = ("sl",) if project.settings.sl.source == "in_context" else ()
    steps = [run.usage[s] for s in ("critique", "verdict") if s in run.usage]
    run.usage["critique"] = total(steps)  # the verdicts are calls of the critic, and counted with its critiques
    yield store_table(run, "critiques", critiques, step="critique", settings=_groups("critiques", also), metadata={
        **stop_metadata(critiques),
        **text_preview(critiques, {"principle_id": "principle", "critique": "critique"}, text="critique"),
        "rows_per_principle": dg.MetadataValue.json(dict(critiques.read("principle_id").to_series().value_counts().sort(
            "principle_id").iter_rows()))})
    run.note("critiques")
    responses = run.table("starting_responses")
    run.usage["revision"] = total([run.usage[s] for s in ("revision", "in_context", "reason") if s in run.usage])
    yield store_table(run, "revisions", revisions, step="revision", settings=_groups("revisions", also),
                      metadata={**stop_metadata(revisions), **revision_preview(responses, revisions)})


def _groups(asset: str, also: Sequence[str]) -> tuple[str, ...]:
    return (*ASSETS[asset].settings, *also)


@asset("sl_dataset")
def sl_dataset(run: Run) -> dg.MaterializeResult[None]:
    """What the SL policy is trained on: revised responses of every round (or the last), helpful and general ones."""
    parts, mixed = stages.sl_dataset(run)
    for note in mix_notes(mixed):
        run.tell(note)
    made = keep(run, "sl_dataset", parts)
    chains = run.read("revisions", "prompt_id", "revision").group_by("prompt_id").agg(pl.col("revision").count())
    return store_table(run, "sl_dataset", made, metadata={
        **text_preview(made, {"messages": "prompt", "response": "response"}),
        "truncated": made.count(pl.col("finish") == "length"), "revised": made.count(pl.col("round") > 0),
        **_of_each_kind(made.read("kind")),
        "chains_without_a_revision": chains.filter(pl.col("revision") == 0).height, **mix_metadata(mixed)})


@asset("sl_policy", when=on_real_change(may_lack=dg.AssetSelection.assets(*OPTIONAL)))
def sl_policy(run: Run) -> dg.MaterializeResult[None]:
    """The SL-CAI policy: the starting policy after supervised training on the revisions (Bai et al. 2022, 3.2)."""
    training = trainings.sl_policy(run)
    counts = dict(training.rows["principle_id"].drop_nulls().value_counts().iter_rows())
    return _supervised(run, training, principle_rows(run.constitution, counts, "critique"))


# Last among ready steps: training between two stages that call the same model would load that model twice.
@asset("sft_baseline", op_tags={"dagster/priority": "-1"})
def sft_baseline(run: Run) -> dg.MaterializeResult[None]:
    """Plain supervised fine-tuning on initial responses: the same prompts, the same number of rows, no constitution."""
    return _supervised(run, trainings.sft_baseline(run), [])


def _supervised(run: Run, training: Training, principles: list[dict[str, Any]]) -> dg.MaterializeResult[None]:
    rows = training.rows
    run.tell(_untrained_thoughts(training))
    by_kind = {"revisions or responses to red-team prompts": rows.filter(pl.col("kind") == "red-team").height,
               "responses to helpful prompts": rows.filter(pl.col("kind") == "helpful").height,
               "general conversations": rows.filter(pl.col("kind") == "general").height}
    done = train(run, training, card={"principles": principles, "rows_by_kind": by_kind})
    return record_checkpoint(run, training.asset, done, rows=rows.height,
                             metadata={**_of_each_kind(rows), **curve_metadata(done.checkpoint, ("loss",))})


def _untrained_thoughts(training: Training) -> str:
    """What to say of thoughts that the policy cannot be given."""
    thoughts = training.rows[THOUGHT].count() if THOUGHT in training.rows.columns else 0
    if not thoughts or training.start.identity.keeps_thoughts:
        return ""
    return (f"{thoughts} of {training.rows.height} rows have a thought, and none is trained on: the policy keeps no "
            "thoughts (models.policy.thinking=keep, of a model whose chat template has a place for them)")


def _of_each_kind(rows: pl.DataFrame) -> dict[str, int]:
    """Rows that are helpful responses and general conversations."""
    return {kind: rows.filter(pl.col("kind") == kind).height for kind in ("helpful", "general")}


assets = [critique_revise, sl_dataset, sl_policy, sft_baseline]
