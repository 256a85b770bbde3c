"""Evaluation of every policy on held-out prompts."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.assets import OWN, PLAIN
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.comparison import comparison
from cai_assets.defs.declared import POOL, spec
from cai_assets.defs.metadata import text_preview
from cai_assets.defs.partitions import versions
from cai_assets.defs.records import beside, file_of, store_table
from cai_assets.defs.run import Run
from cai_assets.evals.measures import EVALUATION
from cai_assets.evals.metrics import METRICS_SCHEMA
from cai_assets.evals.power import with_detectable
from cai_assets.evals.refusal import RULE
from cai_assets.evals.refusal_labels import how_good
from cai_assets.evals.statistics import Telling
from cai_assets.pipeline import evaluation as stages
from cai_assets.pipeline.project import Project
from cai_assets.reports.text.numbers import delta_of, plain, value_of
from cai_assets.reports.text.tables import Live, table

AS_NAME = str.maketrans("-:", "__")


# A new baseline alone triggers no evaluation: two unpartitioned parents would make automation evaluate twice
# for one change of the prompts (docs/architecture.md).
@dg.multi_asset(  # a multi-asset of one, so that its op is not named like the job 'evaluation'
    name="evaluate_policies", partitions_def=versions, pool=POOL,
    specs=[spec("evaluation", code_version=f"2.{RULE}",
                when=on_real_change(ignoring=dg.AssetSelection.assets(PLAIN)))])
def evaluation(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """Respond with each policy, judge in both orders, measure."""
    run = Run(context, project)
    metrics, rows, _ = stages.evaluation(run)
    path = beside(run, "evaluation_rows", rows)
    if "reward_model" not in run.absent:
        metrics = pl.concat([metrics, reward_accuracy(run.checkpoint("reward_model").metrics)], how="diagonal")
    who = judge_of(project)
    return store_table(run, "evaluation", metrics, details={
        "rows": path, "judge": who, "refusal_rule": RULE}, metadata={
        **metric_metadata(metrics, Telling.by(project.settings.evaluation)), "rows_file": file_of(run, path),
        "judge": dg.MetadataValue.json(who), "refusals": how_good(),
        **text_preview(rows, {"policy": "policy", "response": "response"}, rows=2)})


def judge_of(project: Project) -> dict[str, Any]:
    """Who judged, and whether it is the model that also labels: what pleases the labeler then pleases the judge."""
    roles = {name: project.settings.models.role(name) for name in ("judge", "labeller")}
    judge, labeller = (project.engines.open(model).identity for model in roles.values())
    return {**{name: model.source for name, model in roles.items()}, "is_the_labeller": judge == labeller}


def reward_accuracy(metrics: dict[str, Any]) -> pl.DataFrame:
    """The reward model's held-out accuracy, as a row of the metrics table; it has no difference from a base model."""
    held = metrics.get("held_out", {})
    row = {"policy": "reward_model", "metric": "held_out_accuracy", "prompts": "all", "value": held.get("accuracy"),
           "low": held.get("accuracy_low"), "high": held.get("accuracy_high"), "n": held.get("n", 0), "ungraded": 0,
           "verdict": ""}
    return pl.DataFrame([row], {name: METRICS_SCHEMA[name] for name in row})


HEADLINES = {m.label: (m.name, m.prompts) for m in EVALUATION if m.label and (m.over == "even" or m.name == "refusal")}


def headline(metrics: pl.DataFrame) -> str:
    """One line per policy: wins over the base model and refusals, each with interval and count."""
    return _by_policy(metrics, _estimate)


def verdicts(metrics: pl.DataFrame, telling: Telling) -> str:
    """One line per policy: the verdict on its difference from the base model on the same prompts."""
    return _by_policy(metrics, lambda m: with_detectable(m["verdict"], delta_of(m), telling) or "–")


def _by_policy(metrics: pl.DataFrame, cell: Callable[[dict[str, Any]], str]) -> str:
    lines = []
    for policy in metrics.filter(pl.col("policy") != "reward_model")["policy"].unique(maintain_order=True):
        matching = [metrics.filter(policy=policy, metric=metric, prompts=prompts).to_dicts()
                    for metric, prompts in HEADLINES.values()]
        lines.append((Live(policy), *(cell(rows[0]) if rows else None for rows in matching)))
    return table(("policy", *HEADLINES), lines)


def _estimate(m: dict[str, Any]) -> str:
    return plain(value_of(m), counted=True)


def metric_metadata(metrics: pl.DataFrame, telling: Telling) -> dict[str, Any]:
    """The table with intervals, and the numbers whose line over versions says something: the headline measures of what
    a version trains. What no version changes, such as the base model's, stands in the table alone."""
    rows = [(m["policy"], m["metric"], m["prompts"], _estimate(m), m["ungraded"], plain(delta_of(m), counted=True),
             with_detectable(m["verdict"], delta_of(m), telling)) for m in metrics.iter_rows(named=True)]
    out = {f"{m['policy']}_{m['metric']}_{m['prompts']}".translate(AS_NAME): m["value"]
           for m in metrics.iter_rows(named=True) if m["value"] is not None and _is_plotted(m)}
    return {"headline": dg.MetadataValue.md(headline(metrics)),
            "verdicts": dg.MetadataValue.md(verdicts(metrics, telling)),
            "metrics": dg.MetadataValue.md(table(
                ("policy", "metric", "prompts", "estimate", "ungraded", "minus base", "verdict"), rows)), **out}


def _is_plotted(m: Mapping[str, Any]) -> bool:
    return m["policy"] == "reward_model" or (
        m["policy"] in OWN and (m["metric"], m["prompts"]) in HEADLINES.values())


assets = [evaluation, comparison]
