"""The automation condition of our own about runs: whether the run that updated a parent made the asset as well.

Dagster's ``executed_with_root_target()`` reads the assets that a run names. A run of a whole job names none, be it
the weekly schedule's or one from the Jobs page: when automation looked while such a run was going on, it asked once
more for what that run had just made or was about to make, and without the run's own settings. Here a run that
names no assets made those of its job. Evaluated in the code location, as those of ``version_conditions.py``.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from cai_assets.defs.jobs import jobs


class MadeInTheSameRun(dg.AutomationCondition[dg.AssetKey]):
    """True for a parent whose latest run was to make the asset that is looked at, too."""

    @property
    def name(self) -> str:
        """How the Automation page calls it."""
        return "made_in_the_same_run"

    async def evaluate(self, context: Any) -> dg.AutomationResult[dg.AssetKey]:  # type: ignore[override]  # Dagster awaits it
        asset, view = context.root_context.key, context.asset_graph_view
        of_jobs = {job.name: job.selection.resolve(view.asset_graph) for job in jobs}

        def made(record: dg.RunRecord) -> bool:
            run = record.dagster_run
            return asset in (run.asset_selection or of_jobs.get(run.job_name, set()))

        if context.candidate_subset.is_empty:
            return dg.AutomationResult(context, context.get_empty_subset())
        subset = await view.compute_latest_run_matches_subset(from_subset=context.candidate_subset, filter_fn=made)
        return dg.AutomationResult(context, subset)
