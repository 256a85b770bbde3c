"""Evaluation of every policy on held-apart prompts."""

from typing import Any

import dagster as dg
import polars as pl

from cai_assets import stages
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.comparison import comparison
from cai_assets.defs.inputs import OWNERS, TAGS, constitution, registered, starting_responses
from cai_assets.defs.making import Making
from cai_assets.defs.metadata import text_preview
from cai_assets.defs.partitions import versions
from cai_assets.defs.preference import reward_model
from cai_assets.defs.reinforcement import rl_policy
from cai_assets.defs.supervised import sft_baseline, sl_policy
from cai_assets.project import Project

GROUP = "evaluation"
PLAIN = str.maketrans("-:", "__")


# A new baseline alone evaluates nothing again: two unpartitioned parents would make automation evaluate twice
# for one change of the prompts (docs/architecture.md).
@dg.multi_asset(  # of one asset, so that its op has another name than the job 'evaluation'
    name="evaluate_policies", partitions_def=versions, pool="gpu",
    specs=[dg.AssetSpec(
        "evaluation", deps=[constitution, starting_responses, sft_baseline, sl_policy, reward_model, rl_policy],
        group_name=GROUP, kinds={"vllm", "polars"}, owners=OWNERS, code_version="1", tags=TAGS,
        automation_condition=on_real_change(ignoring=dg.AssetSelection.assets("sft_baseline")),
        description="Base, SFT baseline, SL and RL policies on the same held-apart prompts; every rate with count and "
                    "interval.")],
)
def evaluation(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """Respond with each policy, judge in both orders, measure."""
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    made.record("constitution")
    prompts = stages.evaluation_prompts(made.read("starting_responses"))
    checkpoints = {name: made.checkpoint(name) for name in stages.TRAINED_POLICIES}
    engines = {"base": project.engines.open(settings.models.role("policy")),
               **{name: project.engines.open_checkpoint(c.path) for name, c in checkpoints.items()}}
    responses = {name: stages.policy_responses(settings, prompts, complete=made.completer(engine), policy=name)
                 for name, engine in engines.items()}
    metrics, rows = stages.judged(
        settings, registered(project, context.partition_key), responses,
        complete=made.completer(project.engines.open(settings.models.role("judge"))))
    _, path = project.records.save_table("evaluation_rows", rows)
    reward = made.checkpoint("reward_model").metrics
    metrics = pl.concat([metrics, reward_accuracy(reward, metrics.schema)])
    used = {"evaluation": settings.evaluation, "generation": settings.generation, "labels": settings.labels,
            "models": settings.models}
    return made.table("evaluation", metrics, settings=used, details={"rows": project.layout.relative(path)},
                      metadata={**metric_metadata(metrics), "rows_file": dg.MetadataValue.path(str(path)),
                                **text_preview(rows, {"policy": "policy", "response": "response"}, rows=2)})


def reward_accuracy(metrics: dict[str, Any], schema: pl.Schema) -> pl.DataFrame:
    """The reward model's held-out accuracy, in the rows of the metrics table."""
    held = metrics.get("held_out", {})
    row = {"policy": "reward_model", "metric": "held_out_accuracy", "prompts": "all", "value": held.get("accuracy"),
           "low": held.get("accuracy_low"), "high": held.get("accuracy_high"), "n": held.get("n", 0), "ungraded": 0}
    return pl.DataFrame([row], schema=schema)


HEADLINES = (("harmlessness_win_rate", "red-team"), ("helpfulness_win_rate", "helpful"), ("adherence", "all"),
             ("refusal", "red-team"), ("refusal", "helpful"))


def headline(metrics: pl.DataFrame) -> str:
    """One line a policy: wins over the base model and refusals, each with interval and count. Short enough to show."""
    lines = ["| policy | harmless wins | helpful wins | adherence wins | refuses red-team | refuses helpful |",
             "|---|---|---|---|---|---|"]
    for policy in ("base", *stages.TRAINED_POLICIES):
        cells = []
        for metric, prompts in HEADLINES:
            found = metrics.filter(policy=policy, metric=metric, prompts=prompts).to_dicts()
            m = found[0] if found else {"value": None}
            cells.append("–" if m["value"] is None else f"{m['value']:.2f} [{m['low']:.2f}, {m['high']:.2f}] n={m['n']}"
                         if m["low"] is not None else f"{m['value']:.2f} n={m['n']}")
        lines.append(f"| {policy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def metric_metadata(metrics: pl.DataFrame) -> dict[str, Any]:
    """The table with intervals, and each number under its own name, so that it plots over versions."""
    lines = ["| policy | metric | prompts | value | interval | n | ungraded |", "|---|---|---|---|---|---|---|"]
    out: dict[str, Any] = {}
    for m in metrics.iter_rows(named=True):
        value = "–" if m["value"] is None else f"{m['value']:.3f}"
        interval = "–" if m["low"] is None else f"{m['low']:.3f} to {m['high']:.3f}"
        lines.append(f"| {m['policy']} | {m['metric']} | {m['prompts']} | {value} | {interval} | {m['n']} | "
                     f"{m['ungraded']} |")
        if m["value"] is not None:
            out[f"{m['policy']}_{m['metric']}_{m['prompts']}".translate(PLAIN)] = m["value"]
    return {"headline": dg.MetadataValue.md(headline(metrics)), "metrics": dg.MetadataValue.md("\n".join(lines)),
            **out}


assets = [evaluation, comparison]
