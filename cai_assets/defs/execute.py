"""Run the graph from the command line, in this process, as a run that Dagster knows in every way.

The run stands under its job in the code location of the UI, with its config and tags, so that it can be executed again
and ended from its page. No code server, queue or daemon takes part: the engine starts a minute sooner, and nothing is
left behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.execute_in_process import merge_run_tags

from cai_assets.assets import upstream
from cai_assets.defs.command_line import alive, ends_when_asked
from cai_assets.defs.following import Follower, Silent, told_of
from cai_assets.defs.jobs import everything
from cai_assets.defs.launchpad import fits
from cai_assets.defs.logger import following
from cai_assets.defs.origin import job_origin
from cai_assets.defs.partitions import register_folder
from cai_assets.defs.resources import typed
from cai_assets.pipeline.absent import absent
from cai_assets.settings import load_settings
from cai_assets.settings.by_hand import as_understood, kept
from cai_assets.store.layout import Layout
from cai_assets.versions.snapshots import VERSIONS, SnapshotDamaged, Snapshots, UnknownVersion

INTERRUPTED = "DagsterExecutionInterruptedError"


def register(instance: dg.DagsterInstance, folder: Path, snapshots: Snapshots) -> tuple[list[str], list[str]]:
    """Snapshot every constitution file and add the partitions that are new; return (keys, problems)."""
    keys, problems = register_folder(folder, snapshots)
    instance.add_dynamic_partitions(VERSIONS, keys)
    return keys, problems


def materialize(
    instance: dg.DagsterInstance, partition: str, *, selection: Sequence[str] = (), overrides: Mapping[str, Any],
    follower: Follower | None = None,
) -> dg.JobExecutionResult:
    """Run the whole graph, or the selected assets, for one constitution version; ``follower`` hears how it goes.

    Ctrl-C, SIGTERM, and the UI's Terminate end it as canceled.
    """
    from cai_assets.defs.location import defs  # here: it takes seconds

    job = defs.resolve_job_def(everything.name)
    chosen = [dg.AssetKey(name) for name in [*selection, *_between(selection, partition, overrides)]]
    config = run_config(overrides)
    tags = merge_run_tags(job, partition, {}, chosen, instance, config)
    run = instance.create_run_for_job(job, run_config=config, tags=tags, remote_job_origin=job_origin(job.name),
                                      asset_selection=frozenset(chosen) or None)
    listener = follower or Silent()
    listener.started(run.run_id)
    with typed(overrides), following(listener), alive(instance, run), ends_when_asked(instance, run):
        events = list(_executed(job, run, instance, listener))
    ended = instance.get_run_by_id(run.run_id) or run
    return dg.JobExecutionResult(job, contextlib.nullcontext(), events, ended)  # type: ignore[arg-type]


def _between(selection: Sequence[str], version: str, overrides: Mapping[str, Any]) -> list[str]:
    """Assets between the selected ones that the version does not have: they make nothing, and keep the order in which
    Dagster runs what is selected, which it knows only of neighbors."""
    settings = load_settings(overrides)
    try:
        constitution = Snapshots(Layout(settings.data_root)).load(version)
    except (UnknownVersion, SnapshotDamaged):  # which the run says
        return []
    above = {name for one in selection for name in upstream(one)}
    return sorted(name for name in absent(constitution, settings, version) & above - {*selection}
                  if upstream(name) & {*selection})


def run_config(typed: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, as far as Dagster may keep it: executed again, the run has the same settings."""
    chosen, by_hand = kept(typed)
    scale = {"scale": chosen.pop("scale")} if "scale" in chosen else {}
    if not fits(chosen):  # such as 2.0 for a whole number: written as it was understood
        chosen = as_understood(chosen, load_settings(typed))
    config = {**scale, "overrides": chosen, **({"by_hand": by_hand} if by_hand else {})}
    return {
        "resources": {"project": {"config": config}},
        "loggers": {"console": {"config": {"log_level": "INFO"}}},  # naming one replaces Dagster's own debug lines
    }


def _executed(
    job: dg.JobDefinition, run: dg.DagsterRun, instance: dg.DagsterInstance, follower: Follower
) -> Iterator[dg.DagsterEvent]:
    """Every event of the run. An interrupt is a request to end it: without one, Dagster would call it a failure."""
    for event in execute_run_iterator(InMemoryJob(job), run, instance):
        if event.is_step_failure and _interrupted(event.step_failure_data.error):
            instance.report_run_canceling(run, "Interrupted in the terminal.")
        else:
            told_of(event, follower)
        yield event


def _interrupted(error: Any) -> bool:
    return error is not None and error.cls_name == INTERRUPTED
