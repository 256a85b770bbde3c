"""Run the graph from the command line, in this process, on the project's own Dagster instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from cai_assets.defs.partitions import register_folder
from cai_assets.defs.resources import typed
from cai_assets.versions.snapshots import VERSIONS, Snapshots


def register(instance: dg.DagsterInstance, folder: Path, snapshots: Snapshots) -> tuple[list[str], list[str]]:
    """Snapshot every constitution file and add the partitions that are new; return (keys, problems)."""
    keys, problems = register_folder(folder, snapshots)
    instance.add_dynamic_partitions(VERSIONS, keys)
    return keys, problems


def materialize(
    instance: dg.DagsterInstance, partition: str, *, selection: Sequence[str] = (), overrides: Mapping[str, Any],
) -> dg.ExecuteInProcessResult:
    """Run the whole graph, or the selected assets, for one constitution version."""
    from cai_assets.defs.location import defs  # here: it takes seconds

    job = defs.resolve_job_def("all")
    chosen = dict(overrides)
    config: dict[str, Any] = {
        "resources": {"project": {"config": {"scale": chosen.pop("scale", ""), "overrides": chosen}}},
        "loggers": {"console": {"config": {"log_level": "INFO"}}},  # naming one replaces Dagster's own debug lines
    }
    with typed(overrides):
        return job.execute_in_process(
            instance=instance, partition_key=partition, run_config=config, raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in selection] or None,
        )
