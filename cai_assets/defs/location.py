"""Everything in the Dagster code location. Loading it loads no model library."""

from __future__ import annotations

import dagster as dg

from cai_assets.defs import (
    attribution,
    checks,
    constitution_tests,
    evaluation,
    inputs,
    preference,
    reinforcement,
    report,
    round_quality,
    spec,
    stress,
    suites,
    supervised,
)
from cai_assets.defs.automation import automation, register_constitutions, weekly
from cai_assets.defs.jobs import jobs
from cai_assets.defs.logger import brief_logger
from cai_assets.defs.resources import NoValues, project_resource


def build_defs() -> dg.Definitions:
    """The assets, checks, jobs, sensors and schedule, to merge into a Dagster project of one's own.

    ``dg.Definitions.merge(mine, cai_assets.build_defs())``. The executor, loggers and I/O manager are those of that
    project; one process is best, ``dg.in_process_executor``, because a model stays loaded between steps. Names of
    assets, jobs and the resource 'project' must not be taken. Settings come from where they always do.
    """
    return dg.Definitions(
        assets=[
            inputs.prompts, inputs.written_prompts, inputs.initial_responses, inputs.starting_responses,
            inputs.constitution, *spec.assets, *supervised.assets, *preference.assets, *reinforcement.assets,
            *evaluation.assets, *suites.assets, *round_quality.assets, *constitution_tests.assets, *stress.assets,
            *attribution.assets, *report.assets,
        ],
        asset_checks=checks.checks,
        jobs=jobs,
        sensors=[register_constitutions, automation],
        schedules=[weekly],
        resources={"project": project_resource},
    )


defs = dg.Definitions.merge(build_defs(), dg.Definitions(
    resources={"io_manager": NoValues()},
    loggers={"console": brief_logger},
    # One engine start per run, not per step; training has its own processes (defs/launch.py).
    executor=dg.in_process_executor,
))
