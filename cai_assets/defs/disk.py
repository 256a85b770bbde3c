"""What a run does before its first step: remove what killed runs left, and refuse what cannot fit or be trained."""

from __future__ import annotations

import dagster as dg

from cai_assets.assets import CHECKPOINTS
from cai_assets.defs.jobs import everything
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import refuse_served_policy
from cai_assets.plan.fits import refuse_without_memory
from cai_assets.plan.space import refuse_without_room
from cai_assets.store import this_run
from cai_assets.store.garbage import sweep
from cai_assets.store.layout import Layout
from cai_assets.train.external import refuse_missing_command
from cai_assets.train.footprint import gb
from cai_assets.train.nodes import refuse_too_few
from cai_assets.train.trackers import refuse_missing


def prepare(project: Project, run: dg.DagsterRun | None) -> None:
    """Raise NoRoom or NoMemory, or SettingsError for a policy that cannot be trained or curves that cannot be drawn."""
    _sweep(project.layout)
    if run is not None and _trains(run):
        refuse_served_policy(project)
        refuse_missing(project.settings.report_to)
        refuse_too_few(project.settings)
        refuse_missing_command(project.settings)
        _refuse_what_does_not_fit(project, run)


def _sweep(layout: Layout) -> None:
    if left := sweep(layout):
        size = gb(sum(item.bytes for item in left))
        this_run.tell(f"removed {len(left)} unfinished files ({size}) that killed runs had left under {layout.path()}")


def _trains(run: dg.DagsterRun) -> bool:
    chosen = _chosen(run)
    return bool(chosen & set(CHECKPOINTS)) or (not chosen and run.job_name == everything.name)


def _refuse_what_does_not_fit(project: Project, run: dg.DagsterRun) -> None:
    """For runs that say which version they make. A training looks again by itself."""
    version = run.tags.get("dagster/partition")
    if version is not None:
        refuse_without_room(project, version, _chosen(run))
        refuse_without_memory(project, version, _chosen(run))


def _chosen(run: dg.DagsterRun) -> set[str]:
    return {key.to_user_string() for key in run.asset_selection or ()}
