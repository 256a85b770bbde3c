"""The newest run of each version: read from Dagster's own file without Dagster, or asked of it, it is the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from dagster import DagsterRunStatus
from dagster._core.test_utils import create_run_for_test

from cai_assets.defs import home
from cai_assets.defs.latest_runs import LatestRun, latest_at_home, latest_runs

RUNS = [("v1", DagsterRunStatus.SUCCESS), ("v2", DagsterRunStatus.STARTED), (None, DagsterRunStatus.SUCCESS),
        ("v1", DagsterRunStatus.CANCELED)]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, LatestRun]:
    """A home with RUNS, and what Dagster says of them."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with home.open_instance() as instance:
        for version, status in RUNS:
            create_run_for_test(instance, status=status, tags={"dagster/partition": version} if version else {})
        return latest_runs(instance)


def no_dagster() -> None:
    raise AssertionError("Dagster was asked")


def test_what_the_file_says_is_what_dagster_says(
    told: dict[str, LatestRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {version: run.status for version, run in told.items()} == {"v1": "CANCELED", "v2": "STARTED"}
    with sqlite3.connect(tmp_path / "history" / "runs.db") as database:
        database.execute("UPDATE runs SET start_time = 1796011329.03 WHERE partition = 'v2'")
    with home.open_instance() as instance:
        told = latest_runs(instance)
    monkeypatch.setattr(home, "open_instance", no_dagster)
    assert latest_at_home() == told
    assert told["v1"].began != told["v2"].began


@pytest.mark.parametrize("key", ["storage", "run_storage", '"storage"', "instance_class"])
def test_a_home_that_keeps_its_runs_elsewhere_is_dagsters(
    told: dict[str, LatestRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (tmp_path / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{key}: {{}}\n")
    monkeypatch.setattr(home, "open_instance", no_dagster)
    with pytest.raises(AssertionError, match="Dagster was asked"):
        latest_at_home()


def test_what_is_no_file_of_runs_is_dagsters_to_explain(told: dict[str, LatestRun], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "history" / "runs.db") as database:
        database.execute("DROP TABLE runs")
    with pytest.raises(home.HomeProblem, match="half-made"):
        latest_at_home()
