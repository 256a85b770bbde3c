"""AI feedback: response pairs, labels, the reward model."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.defs.declared import asset
from cai_assets.defs.gate import gate_metadata
from cai_assets.defs.launch import train
from cai_assets.defs.metadata import curve_metadata, notes_metadata, text_preview
from cai_assets.defs.records import beside, keep, record_checkpoint, store_table
from cai_assets.defs.run import Run
from cai_assets.evals.reward import accuracy_by, parse
from cai_assets.evals.statistics import Estimate
from cai_assets.pipeline import stages, trainings
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.votes import unknown_principles
from cai_assets.reports.checkpoint import principle_rows
from cai_assets.reports.reward import accuracy_table, controls_table, group_table, reliability_table
from cai_assets.steps.comparisons import HUMAN, UNUSABLE, Mixed
from cai_assets.steps.reasons import reason_line
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.folders import has
from cai_assets.store.published import RECORD, read_about


@asset("response_pairs", code_version="2")
def response_pairs(run: Run) -> dg.MaterializeResult[None]:
    """Two responses to each training prompt: samples of the SL policy (or of the generator), or the initial response
    and the last revision. Identical pairs are marked and never labeled."""
    made = keep(run, "response_pairs", stages.response_pairs(run))
    return store_table(run, "response_pairs", made, metadata={
        **text_preview(made, {"messages": "prompt", "response_a": "A", "response_b": "B"}),
        "identical": made.count(pl.col("identical")), "incomplete": made.count(pl.col("error").is_not_null())})


@asset("preference_pairs", code_version="2")
def preference_pairs(run: Run) -> dg.MaterializeResult[None]:
    """AI labels: which response the constitution prefers, asked in both orders, by exact answer probabilities, or by
    the shares of sampled replies where the labeler's server gives none."""
    gate, gate_rows, benchmark_rows = stages.judge_gate(run)
    run.tell(reason_line(gate.unusable, gate.n + gate.unusable, "rows of gate.path unusable", gate.left_out))
    for note in gate.notes:
        run.tell(note)
    for benchmark in gate.benchmarks:
        run.tell(reason_line(benchmark.unusable, benchmark.unusable + sum(m.rows for m in benchmark.whole),
                             f"rows of {benchmark.name} unusable", benchmark.left_out))
        for note in benchmark.notes:
            run.tell(note)
    made = keep(run, "preference_pairs", stages.preference_pairs(run))
    labels = dict(made.read("label").to_series().value_counts().sort("label").iter_rows())
    details = {"gate": gate.model_dump(mode="json"), "gate_rows": beside(run, "judge_gate", gate_rows)}
    if benchmark_rows is not None:
        details["benchmark_rows"] = beside(run, "judge_benchmarks", benchmark_rows)
    return store_table(run, "preference_pairs", made, details=details, metadata={
        **gate_metadata(gate, run.project),
        **text_preview(made, {"principle_id": "principle", "chosen": "chosen", "rejected": "rejected"}, text="chosen"),
        "labels": dg.MetadataValue.json(labels),
        **label_metadata(made.read("label", "p_a", "p_target", "p_a_first", "p_a_second", "disagreement",
                                    "votes"))})


def label_metadata(frame: pl.DataFrame) -> dict[str, float | int]:
    """How the labeler behaved: how often both orders agree, how far apart they are, how often it picks the first
    place; how many labels a clamp changed, and how many votes went against their label."""
    graded = frame.filter(pl.col("p_a").is_not_null())
    if not graded.height:
        return {"graded": 0}
    agree = graded.filter(pl.col("label") != "tie").height
    first = sum(graded.filter(chosen).height for chosen in (pl.col("p_a_first") > 0.5, pl.col("p_a_second") < 0.5))
    cast = graded.select("p_a", pl.col("votes").list.eval(pl.element().struct.field("p_a"))).explode("votes")
    against = cast.filter((pl.col("votes") - 0.5) * (pl.col("p_a") - 0.5) < 0).height
    return {"graded": graded.height, "order_consistency": round(agree / graded.height, 4),
            "picks_first_place": round(first / (2 * graded.height), 4),
            "order_disagreement": round(float(graded.select(pl.mean("disagreement")).item()), 4),
            "clamped": graded.filter(pl.col("p_target") != pl.col("p_a")).height, "votes_against": against}


@asset("reward_model")
def reward_model(run: Run) -> dg.MaterializeResult[None]:
    """A scalar head on the starting policy, trained to prefer what the labels prefer."""
    training, mixed = trainings.reward_model(run)
    unusable = {reason: n for reason, n in mixed.left_out.items() if reason.startswith(UNUSABLE)}
    people = sum(mixed.left_out.values()) + mixed.frame.filter(source=HUMAN).height
    run.tell(reason_line(sum(unusable.values()), people, "human comparisons left out", unusable))
    for note in mixed.notes:
        run.tell(note)
    rows = training.rows
    for lost in sorted(set(rows["principle_id"].drop_nulls()) - {p.id for p in run.constitution.principles}):
        run.tell(f"the reward model also learned from the votes of {lost}, which {run.version} has no more; its reward "
                 "is left out of the sum")
    counts = dict(rows["principle_id"].value_counts().iter_rows())
    done = train(run, training, card={"principles": principle_rows(run.constitution, counts, "preference"),
                                      "rows_by_kind": mixed.by_kind()})
    if run.settings.reward.input == "principle":
        run.tell(unknown_principles(run, _learned_from(run.project, done.checkpoint)))
    groups = held_out_groups(done.checkpoint, rows)
    accuracy = {what: {name: asdict(x) for name, x in by.items()} for what, by in groups.items()}
    return record_checkpoint(
        run, "reward_model", done, rows=rows.height,
        details={"human_share": mixed.human_share, "human_left_out": mixed.left_out, "accuracy_by": accuracy},
        metadata={**curve_metadata(done.checkpoint, ("loss", "accuracy")),
                  **held_out_metadata(done.checkpoint.metrics["held_out"], groups), **human_metadata(mixed),
                  **controls_metadata(done.checkpoint.metrics)})


def _learned_from(project: Project, checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The record of the training that a reward model comes from: its own, or that of the one that was taken."""
    taken = project.settings.reward.model
    if taken is None:
        return checkpoint.record
    folder = Path(taken.source)
    return read_about(folder) if has(folder, RECORD) else {}


def controls_metadata(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Of a reward model that reads principles: its accuracy on each beside its controls'."""
    measured = metrics.get("principles")
    return {"by_principle_and_control": dg.MetadataValue.md(controls_table(measured))} if measured else {}


def held_out_groups(checkpoint: Checkpoint, rows: pl.DataFrame) -> dict[str, dict[str, Estimate]]:
    """The held-out accuracy by principle and by source of the label. ``rows``: the comparisons trained on."""
    results = parse(checkpoint.lines("held_out.jsonl"))
    return {column: accuracy_by(results, rows[column].to_list()) for column in ("principle_id", "source")}


def held_out_metadata(figures: dict[str, Any], groups: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
    """The tables, and the numbers that plot over versions."""
    tables = {"held_out": accuracy_table(figures), "reliability": reliability_table(figures),
              "by_principle": group_table(groups["principle_id"], "principle"),
              "by_source": group_table(groups["source"], "label by")}
    shown = {name: dg.MetadataValue.md(text) for name, text in tables.items() if text}
    return {**shown, "held_out_pairs": figures["n"], **{
        f"held_out_{name}": float(value) for name, value in figures.items()
        if isinstance(value, float) and not name.endswith(("_low", "_high"))}}


def human_metadata(mixed: Mixed) -> dict[str, Any]:
    """How many human comparisons take part, and why the others do not."""
    if not mixed.human_share and not mixed.left_out:
        return {}
    return {"human_share": round(mixed.human_share, 4), "human_left_out": dg.MetadataValue.json(mixed.left_out),
            **notes_metadata(mixed.notes)}


assets = [response_pairs, preference_pairs, reward_model]
