"""The newest run of each version, read from Dagster's own files where they can be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from cai_assets.defs import home
from cai_assets.defs.own_files import own_file

if TYPE_CHECKING:
    import dagster as dg

LATEST = 200  # runs that are looked at
NEWEST = "SELECT partition, run_id, status, start_time, create_timestamp FROM runs ORDER BY id DESC LIMIT ?"


class LatestRun(NamedTuple):
    """The newest run of a version: Dagster's word for how it stands, and when it began."""

    id: str
    status: str
    began: str


Found = tuple[str | None, str, str, float]  # version, run id, status, seconds since 1970


def latest_runs(instance: dg.DagsterInstance) -> dict[str, LatestRun]:
    """The newest run of each version, among the latest."""
    return _newest((r.dagster_run.tags.get("dagster/partition"), r.dagster_run.run_id, r.dagster_run.status.value,
                    r.start_time or r.create_timestamp.timestamp()) for r in instance.get_run_records(limit=LATEST))


def latest_at_home() -> dict[str, LatestRun]:
    """The same for the home in use. Raise HomeProblem."""
    try:
        return _newest(_read())
    except (sqlite3.Error, OSError, ValueError):
        with home.open_instance() as instance:
            return latest_runs(instance)


def _newest(runs: Iterable[Found]) -> dict[str, LatestRun]:
    newest: dict[str, LatestRun] = {}
    for version, run_id, status, seconds in runs:
        if version:
            began = datetime.fromtimestamp(seconds).astimezone()
            newest.setdefault(version, LatestRun(run_id, status, f"{began:%Y-%m-%d %H:%M}"))
    return newest


def _read() -> Iterator[Found]:
    """Runs in the home's own file, newest first. Raise sqlite3.Error, OSError or ValueError where that is not it."""
    with own_file("runs.db") as connection:
        for version, run_id, status, start, created in connection.execute(NEWEST, (LATEST,)).fetchall():
            yield version, run_id, status, start or datetime.fromisoformat(created).replace(tzinfo=UTC).timestamp()
