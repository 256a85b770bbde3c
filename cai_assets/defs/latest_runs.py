"""The newest run of each version."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import dagster as dg

LATEST = 200  # runs that are looked at


class LatestRun(NamedTuple):
    """The newest run of a version: Dagster's word for how it stands, and when it began."""

    id: str
    status: str
    began: str


def latest_runs(instance: dg.DagsterInstance) -> dict[str, LatestRun]:
    """The newest run of each version, among the latest."""
    runs: dict[str, LatestRun] = {}
    for record in instance.get_run_records(limit=LATEST):
        version = record.dagster_run.tags.get("dagster/partition")
        if version:
            began = datetime.fromtimestamp(record.start_time or record.create_timestamp.timestamp()).astimezone()
            runs.setdefault(version, LatestRun(record.dagster_run.run_id, record.dagster_run.status.value,
                                               f"{began:%Y-%m-%d %H:%M}"))
    return runs
