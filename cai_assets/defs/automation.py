"""What runs automatically: the condition, the registering sensor, the schedule.

Only registration runs by default: it costs nothing. Spending GPU time is opt-in: start the 'automation' sensor
or the weekly schedule in the UI, or set CAI_AUTOMATION=on. Both sensors tick every 30 seconds; CAI_SENSOR_SECONDS
overrides that, for tests that cannot wait.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import dagster as dg

from cai_assets.defs.jobs import OURS, everything
from cai_assets.defs.partitions import register_folder, versions
from cai_assets.defs.run_condition import MadeInTheSameRun
from cai_assets.defs.version_conditions import OfDerivedVersion, OfNewestVersion, newest_versions
from cai_assets.settings import load_settings
from cai_assets.store.layout import Layout
from cai_assets.versions.snapshots import VERSIONS, Snapshots

SENSOR_SECONDS = int(os.environ.get("CAI_SENSOR_SECONDS", "30"))
AC: Any = dg.AutomationCondition  # its key type is invariant, which no composed condition satisfies

# Built from Dagster's own parts (docs/architecture.md says why not eager()): unchanged data causes no run,
# each real change causes one pass.
_changed = (AC.data_version_changed() & ~MadeInTheSameRun()) | AC.will_be_requested()

# Dagster's own all_deps_blocking_checks_passed() requires the *checks* to be requested too, which happens only to
# checks with a condition: it splits one change into a run at each blocking check. A parent requested in this tick is in
# the same run, where a failed blocking check stops what is downstream.
_checks_passed = AC.all_checks_match(AC.check_passed(), blocking_only=True)


# Dagster calls nothing new that was missing when automation first looked, and its since_last_handled() forgets what
# held then. This remembers it until it is requested once: neither a failure nor a terminated run starts it again.
_missing_from_the_start = (AC.missing() & AC.initial_evaluation()).since(AC.newly_requested() | AC.newly_updated())


def on_real_change(
    *, ignoring: dg.AssetSelection | None = None, may_lack: dg.AssetSelection | None = None,
    from_the_start: bool = False, newest_only: bool = False
) -> Any:
    """Run when a parent's data really changed, when newly missing, or when the code version changed; but never for a
    derived version.

    ``from_the_start``: also when it was missing before automation was switched on. Only for unversioned
    assets: nobody asked for every version that was never materialized. ``newest_only``: a changed parent starts the
    newest version of each constitution. For assets between the versions and the unversioned ones. ``may_lack``:
    parents that need not be there, because a data root from before they existed has none.
    """
    parent_changed = AC.any_deps_match(_changed)
    if ignoring is not None:
        parent_changed = parent_changed.ignore(ignoring)
    if newest_only:
        parent_changed = parent_changed & OfNewestVersion()
    lacking = AC.any_deps_missing() if may_lack is None else AC.any_deps_missing().ignore(may_lack)
    wanted = (AC.newly_missing() | parent_changed | AC.code_version_changed()).since_last_handled()
    if from_the_start:
        wanted |= _missing_from_the_start
    return (
        ~OfDerivedVersion() & wanted & ~lacking & ~AC.any_deps_in_progress() & ~AC.in_progress()
        & AC.all_deps_match(AC.will_be_requested() | _checks_passed)
    ).with_label("on_real_change")


@dg.sensor(minimum_interval_seconds=SENSOR_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING,
           description="Registers constitution versions as files change. Starts no runs and generates nothing.")
def register_constitutions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    settings = load_settings()
    keys, problems = register_folder(_absolute(settings.constitutions), Snapshots(Layout(settings.data_root)))
    for problem in problems:
        context.log.warning(problem)
    known = set(context.instance.get_dynamic_partitions(VERSIONS))
    new = [k for k in keys if k not in known]
    if not new:
        return dg.SkipReason(f"{len(keys)} constitution files, none new; {len(problems)} with problems")
    return dg.SensorResult(dynamic_partitions_requests=[versions.build_add_request(new)])


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


warnings.filterwarnings("ignore", "Parameter `use_user_code_server`", category=dg.BetaWarning)
automation = dg.AutomationConditionSensorDefinition(
    name="automation", target=OURS, minimum_interval_seconds=SENSOR_SECONDS,
    use_user_code_server=True,  # for our own conditions (version_conditions.py, run_condition.py)
    default_status=(dg.DefaultSensorStatus.RUNNING if os.environ.get("CAI_AUTOMATION") == "on"
                    else dg.DefaultSensorStatus.STOPPED),
)


@dg.schedule(job=everything, cron_schedule="0 3 * * 1", execution_timezone="UTC",
             description="Every Monday: reruns the newest version of each constitution, except archived and derived "
                         "ones. Unchanged rows are reused.")
def weekly(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    settings = load_settings()
    keys = newest_versions(context.instance.get_dynamic_partitions(VERSIONS), Layout(settings.data_root))
    week = f"{context.scheduled_execution_time:%G-W%V}"
    # A new seed gives every row a new key, so that no old row passes for a fresh sample.
    fresh = {"seed": int(f"{context.scheduled_execution_time:%G%V}")} if settings.fresh_weekly else {}
    config = {"resources": {"project": {"config": {"overrides": fresh}}}} if fresh else {}
    return [dg.RunRequest(run_key=f"{key}:{week}", partition_key=key, run_config=config) for key in keys]
