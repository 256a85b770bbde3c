"""Asset checks. Partition-aware, so that one constitution's failure never holds another's run.

Blocking checks stop what hangs below: they say that going on would be wrong. The others warn: at the smoke scale
a 135M model is expected to earn warnings, and the machinery should still be seen to work.
"""

import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.defs.inputs import registered
from cai_assets.defs.partitions import versions
from cai_assets.lineage.records import WITHOUT_VERSION, Record
from cai_assets.project import Project

Verdict = tuple[bool, str, dict[str, Any]]
Judge = Callable[[Project, Record, str | None], Verdict]

# partitions_def on checks is marked as a preview in Dagster 1.13; without it a failing version blocks the others.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning)


def _check(
    asset: str, name: str, judge: Judge, *, description: str, blocking: bool = False
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, description=description, blocking=blocking,
                    partitions_def=None if asset in WITHOUT_VERSION else versions)
    def check(context: dg.AssetCheckExecutionContext, project: dg.ResourceParam[Project]) -> dg.AssetCheckResult:
        partition = None if asset in WITHOUT_VERSION else context.partition_key
        passed, why, numbers = judge(project, project.records.latest(asset, partition), partition)
        severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(passed=passed, severity=severity, description=why, metadata=numbers)

    return check


def splits_are_disjoint(project: Project, record: Record, _: str | None) -> Verdict:
    frame = project.records.table(record).with_columns(text=pl.col("messages").map_elements(
        lambda m: " ".join(t["content"].casefold() for t in m), return_dtype=pl.String))
    split = {s: set(frame.filter(pl.col("split") == s)["text"]) for s in ("train", "evaluation")}
    both = split["train"] & split["evaluation"]
    numbers = {"train": len(split["train"]), "evaluation": len(split["evaluation"]), "in_both": len(both)}
    return not both and all(split.values()), f"{len(both)} prompts are in both splits", numbers


def prompts_accounted_for(_: Project, record: Record, __: str | None) -> Verdict:
    counts = record.details["counts"]
    total = counts["kept"] + counts["duplicates"] + counts["rejected"]
    return total == counts["read"], f"{counts['read']} read, {total} accounted for", dict(counts)


def nothing_failed(project: Project, record: Record, _: str | None) -> Verdict:
    calls = max(1, record.reused + record.generated + record.failed)
    text = f"{record.failed} of {calls} calls failed" + ("; running again retries them" if record.failed else "")
    return record.failed == 0, text, {"failed": record.failed, "share": record.failed / calls}


def principles_are_covered(project: Project, record: Record, partition: str | None) -> Verdict:
    drawn = set(project.records.table(record)["principle_id"])
    wanted = {p.id for p in registered(project, str(partition)).taking_part("critique")}
    never = sorted(wanted - drawn)
    text = f"{len(never)} of {len(wanted)} principles were drawn by no row"
    return not never, text, {"never_drawn": ", ".join(never)}


def revisions_changed_something(project: Project, record: Record, _: str | None) -> Verdict:
    frame = project.records.table(record)
    usable = frame.filter(pl.col("revision").is_not_null())
    changed = usable.filter(pl.col("revision") != pl.col("before")).height
    numbers = {"rows": frame.height, "usable": usable.height, "changed": changed}
    return changed > 0, f"{changed} of {frame.height} revisions differ from the text they revise", numbers


def nothing_is_truncated(project: Project, record: Record, _: str | None) -> Verdict:
    frame = project.records.table(record)
    cut = frame.filter(pl.col("finish") == "length").height
    text = f"{cut} of {frame.height} responses were cut by generation.max_tokens; raise it to train on whole answers"
    return cut == 0, text, {"truncated": cut, "rows": frame.height}


def has_training_rows(project: Project, record: Record, _: str | None) -> Verdict:
    rows = record.rows or 0
    return rows > 0, f"{rows} training rows", {"rows": rows}


def labels_can_train(project: Project, record: Record, _: str | None) -> Verdict:
    frame = project.records.table(record)
    graded = frame.filter(pl.col("p_a").is_not_null()).height
    numbers = {"pairs": frame.height, "graded": graded, "identical": int(frame["identical"].sum())}
    return graded >= 4, f"{graded} of {frame.height} pairs are graded; a reward model needs at least 4", numbers


def orders_agree(project: Project, record: Record, _: str | None) -> Verdict:
    graded = project.records.table(record).filter(pl.col("p_a").is_not_null())
    agree = graded.filter(pl.col("label") != "tie").height
    share = agree / max(1, graded.height)
    text = f"both orders agree on {agree} of {graded.height} pairs; below a half, labels follow the place, not the text"
    return share >= 0.5, text, {"agree": agree, "graded": graded.height, "share": share}


def beats_chance(_: Project, record: Record, __: str | None) -> Verdict:
    held = record.details["metrics"].get("held_out", {})
    low, n = held.get("accuracy_low"), held.get("n", 0)
    text = f"held-out accuracy {held.get('accuracy')} on {n} pairs, interval {low} to {held.get('accuracy_high')}"
    return low is not None and low > 0.5, text, {"n": n}


def kl_within_budget(_: Project, record: Record, __: str | None) -> Verdict:
    metrics, budget = record.details["metrics"], record.settings["rl"]["kl_budget"]
    kl = metrics["kl_max"]
    return kl <= budget, f"largest KL to the SL policy {kl:.4f}, budget {budget:g}", {"kl_max": kl, "budget": budget}


def enough_is_graded(project: Project, record: Record, _: str | None) -> Verdict:
    wins = project.records.table(record).filter(pl.col("metric").str.ends_with("win_rate"))
    graded, ungraded = int(wins["n"].sum()), int(wins["ungraded"].sum())
    text = f"{graded} comparisons graded, {ungraded} ungraded"
    return graded > 0 and ungraded <= 0.1 * (graded + ungraded), text, {"graded": graded, "ungraded": ungraded}


def plan_is_known(_: Project, record: Record, __: str | None) -> Verdict:
    plan = record.details.get("plan")
    if plan is None:
        return False, "no plan could be made; the run's log says why", {}
    lines = plan["lines"]
    rows, seconds = sum(x["generate_max"] for x in lines), sum(x["seconds"] or 0.0 for x in lines)
    trainings = sum(x["training"] in {"train", "train unless unchanged"} for x in lines)
    unknown = [x["asset"] for x in lines if x["seconds"] is None]
    text = f"at most {rows} rows and {trainings} trainings, about {seconds:.0f} s at this store's own rates"
    return True, text + (f"; no rate yet for {', '.join(unknown)}" if unknown else ""), {
        "rows_at_most": rows, "trainings_at_most": trainings, "seconds_at_most": float(seconds)}


checks = [
    _check("constitution", "plan", plan_is_known,
           description="What this version costs is known before it is spent"),
    _check("prompts", "splits_are_disjoint", splits_are_disjoint, blocking=True,
           description="No prompt is in both the train and the evaluation split"),
    _check("prompts", "rows_accounted_for", prompts_accounted_for, blocking=True,
           description="Rows read = kept + duplicates + rejected"),
    *[_check(asset, "nothing_failed", nothing_failed, description="Every model call came back")
      for asset in ("initial_responses", "critiques", "response_pairs", "evaluation")],
    _check("critiques", "principles_are_covered", principles_are_covered,
           description="Every principle that can be drawn was drawn by some row"),
    _check("revisions", "revisions_changed_something", revisions_changed_something, blocking=True,
           description="Some revision differs from the text it revises"),
    _check("sl_dataset", "has_training_rows", has_training_rows, blocking=True,
           description="There is something to train on"),
    _check("sl_dataset", "nothing_is_truncated", nothing_is_truncated,
           description="No training response was cut by the token limit"),
    _check("preference_pairs", "labels_can_train", labels_can_train, blocking=True,
           description="Enough graded pairs to train a reward model"),
    _check("preference_pairs", "orders_agree", orders_agree,
           description="The labeller prefers the same response in both orders at least half of the time"),
    _check("reward_model", "beats_chance", beats_chance,
           description="The interval of the held-out accuracy lies above one half"),
    _check("rl_policy", "kl_within_budget", kl_within_budget,
           description="The RL policy stayed within the KL budget of the SL policy"),
    _check("evaluation", "enough_is_graded", enough_is_graded,
           description="At most a tenth of the judge's comparisons are ungraded"),
]
