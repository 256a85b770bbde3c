"""How a check is made: partition-aware, so that one constitution's failure never holds another's run.

Blocking checks stop what hangs below: they say that going on would be wrong. The others warn: at the smoke scale
a 135M model is expected to earn warnings, and the machinery should still be seen to work.
"""

import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg

from cai_assets.defs.partitions import versions
from cai_assets.lineage.records import WITHOUT_VERSION, Record
from cai_assets.project import Project

Verdict = tuple[bool, str, dict[str, Any]]
Judge = Callable[[Project, Record, str | None], Verdict]

# partitions_def on checks is marked as a preview in Dagster 1.13; without it a failing version blocks the others.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning)


def check(
    asset: str, name: str, judge: Judge, *, description: str, blocking: bool = False
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, description=description, blocking=blocking,
                    partitions_def=None if asset in WITHOUT_VERSION else versions)
    def run(context: dg.AssetCheckExecutionContext, project: dg.ResourceParam[Project]) -> dg.AssetCheckResult:
        partition = None if asset in WITHOUT_VERSION else context.partition_key
        passed, why, numbers = judge(project, project.records.latest(asset, partition), partition)
        severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(passed=passed, severity=severity, description=why, metadata=numbers)

    return run


def nothing_failed(project: Project, record: Record, _: str | None) -> Verdict:
    calls = max(1, record.reused + record.generated + record.failed)
    text = f"{record.failed} of {calls} calls failed" + ("; running again retries them" if record.failed else "")
    return record.failed == 0, text, {"failed": record.failed, "share": record.failed / calls}


def ability_is_kept(project: Project, record: Record, _: str | None) -> Verdict:
    found, limit = record.details["metrics"].get("ability"), project.settings.monitors.perplexity_growth
    if found is None:
        return True, "not measured: the checkpoint was made without a general text", {}
    growth = found["perplexity_after"] / found["perplexity_before"]
    text = (f"perplexity on general text {found['perplexity_before']:.4g} before and {found['perplexity_after']:.4g} "
            f"after, over {found['tokens']} tokens: times {growth:.4g}, limit {limit:g}")
    return growth <= limit, text, {**found, "perplexity_growth": growth, "limit": limit}
