"""Our own automation condition about runs: whether the run that updated a parent made the asset as well.

Dagster's ``executed_with_root_target()`` reads the assets that a run names. A run of a whole job names none, be it
the weekly schedule's or one from the Jobs page: when automation ticked during such a run, it requested once
more what that run had just made or was about to make, and without the run's own settings. Here a run that
names no assets made those of its job. Evaluated in the code location, like those of ``version_conditions.py``.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import dagster as dg

from cai_assets.defs.jobs import jobs


class MadeInTheSameRun(dg.AutomationCondition[dg.AssetKey]):
    """True for a parent whose latest run also targeted the asset under evaluation."""

    @property
    def name(self) -> str:
        """Its name on the Automation page."""
        return "made_in_the_same_run"

    async def evaluate(self, context: Any) -> dg.AutomationResult[dg.AssetKey]:  # type: ignore[override]  # Dagster awaits it
        subset, asset, view = context.candidate_subset, context.root_context.key, context.asset_graph_view
        if subset.is_empty:
            return dg.AutomationResult(context, context.get_empty_subset())

        def made(record: dg.RunRecord) -> bool:
            run = record.dagster_run
            return asset in (run.asset_selection or _of_job(run.job_name, view.asset_graph))

        latest = await view.compute_latest_run_matches_subset(from_subset=subset, filter_fn=made)
        return dg.AutomationResult(context, latest)


def _of_job(name: str, graph: Any) -> Set[dg.AssetKey]:
    """The assets of one of our jobs."""
    job = next((job for job in jobs if job.name == name), None)
    return job.selection.resolve(graph) if job else set()
