"""How a check is defined: partition-aware, so that one constitution's failure never blocks another's run.

Blocking checks stop downstream assets, because continuing would be wrong. The others warn: at the smoke scale a 135M
model is expected to cause warnings, and the pipeline should still run to the end.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import dagster as dg

from cai_assets.assets import ASSETS
from cai_assets.defs.losses import judged_losses, lost_calls
from cai_assets.defs.partitions import versions
from cai_assets.defs.run import registered
from cai_assets.pipeline.absent import absent, why_absent
from cai_assets.pipeline.project import Project
from cai_assets.store.records import Record

NOTHING_IS_LOST = ("No call was lost on the way to these rows, or as many as accept_loss allows: what is trained on "
                   "the rest would be trained again")
Verdict = tuple[bool, str, dict[str, Any]]
Judge = Callable[[Project, Record, str | None], Verdict]

# partitions_def on checks is marked as a preview in Dagster 1.13; without it a failing version blocks the others.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning)


class Check(NamedTuple):
    """What is checked, and the function that judges it."""

    spec: dg.AssetCheckSpec
    judge: Judge


def check(asset: str, name: str, judge: Judge, *, description: str, blocking: bool = False) -> Check:
    spec = dg.AssetCheckSpec(name, asset=asset, description=description, blocking=blocking,
                             partitions_def=versions if ASSETS[asset].versioned else None)
    return Check(spec, judge)


def definitions_of(checks: Sequence[Check]) -> list[dg.AssetChecksDefinition]:
    """One definition for each asset: a step of Dagster costs more than most of these judgments."""
    by_asset: dict[str, list[Check]] = {}
    for one in checks:
        by_asset.setdefault(one.spec.asset_key.to_user_string(), []).append(one)
    return [_definition(asset, ones) for asset, ones in by_asset.items()]


def _definition(asset: str, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(name=f"{asset}_checks", specs=[c.spec for c in checks], can_subset=True)
    def run(
        context: dg.AssetCheckExecutionContext, project: dg.ResourceParam[Project]
    ) -> Iterator[dg.AssetCheckResult]:
        partition = context.partition_key if ASSETS[asset].versioned else None
        why = _why_absent(project, asset, partition)
        record = None if why else project.records.latest(asset, partition)
        selected = context.op_execution_context.selected_asset_check_keys
        for spec, judge in checks:
            if spec.key in selected:
                passed, text, numbers = judge(project, record, partition) if record else (True, why, {})
                severity = dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN
                yield dg.AssetCheckResult(passed=passed, severity=severity, description=text, metadata=numbers,
                                          asset_key=spec.asset_key, check_name=spec.name)

    return run


def _why_absent(project: Project, asset: str, partition: str | None) -> str:
    """Why the version does not have this asset, which then has nothing to check; '' if it has."""
    if partition is None or ASSETS[asset].part is None:
        return ""
    constitution = registered(project, partition)
    gone = absent(constitution, project.settings, partition)
    return why_absent(constitution, asset) if asset in gone else ""


def nothing_failed(project: Project, record: Record, _: str | None) -> Verdict:
    calls = max(1, record.reused + record.generated + record.failed)
    lost = lost_calls(record)
    text = f"{record.failed} of {calls} calls failed" + (f"; a rerun retries them: {lost} may succeed, and "
            f"{record.failed - lost} were refused for what they are" if record.failed else "")
    return record.failed == 0, text, {"failed": record.failed, "share": record.failed / calls, "lost": lost}


def nothing_is_lost(project: Project, record: Record, _: str | None) -> Verdict:
    return judged_losses(project, [record])


def rows_fit(project: Project, record: Record, _: str | None) -> Verdict:
    metrics, limit = record.details["metrics"], project.settings.monitors.cut_share
    if "rows_read" not in metrics:
        return True, "not counted: trained by a release that cut long prompts at their beginning, without a word", {}
    rows, cut, dropped = (metrics[f"rows_{fate}"] for fate in ("read", "cut", "dropped"))
    share = (cut + dropped) / max(1, rows)
    text = (f"of {rows} rows, {cut} lost their earliest turns and {dropped} were left out because they are longer than "
            f"max_length: {share:.1%}, limit {limit:.1%} (monitors.cut_share)")
    return share <= limit, text, {"cut": cut, "left_out": dropped, "share": share, "limit": limit}


ROWS_FIT = "At most the share monitors.cut_share of the training rows is longer than max_length"


def ability_is_kept(project: Project, record: Record, _: str | None) -> Verdict:
    ability, limit = record.details["metrics"].get("ability"), project.settings.monitors.perplexity_growth
    if ability is None:
        return True, "not measured: the checkpoint was trained without a general text", {}
    growth = ability["perplexity_after"] / ability["perplexity_before"]
    text = (f"perplexity on general text {ability['perplexity_before']:.4g} before and "
            f"{ability['perplexity_after']:.4g} after, over {ability['tokens']} tokens: a factor of {growth:.4g}, "
            f"limit {limit:g}")
    return growth <= limit, text, {**ability, "perplexity_growth": growth, "limit": limit}
