"""Runs of the command line as Dagster knows them: under their job, with tags, ended as asked, seen when they die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from patience import until

from cai_assets.cli.common import INTERRUPTED
from cai_assets.defs.command_line import DIED, Launcher

TESTS = Path(__file__).parents[1]
HOME = TESTS.parent / "dagster_home" / "dagster.yaml"
CONSTITUTION = 'version: "v1"\nprinciples:\n  - {id: harm, critique: Find harm., revision: Remove harm.}\n'
# As in the background of a script, with a response that takes long, so that there is a run to end.
SLOW = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from cai_assets.engines import scripted
from cai_assets.cli import app
def reply(*_):
    asked.touch()
    time.sleep(600)
asked = pathlib.Path(sys.argv.pop())
scripted.default_reply = reply
app()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "constitutions").mkdir()
    (tmp_path / "constitutions" / "mild.yaml").write_text(CONSTITUTION)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text(HOME.read_text())
    return tmp_path


@pytest.fixture
def start(root: Path) -> Callable[[], subprocess.Popen[bytes]]:
    """``cai materialize`` as a script starts it in the background, until its first response is asked for."""
    environment = {**os.environ, "DAGSTER_HOME": str(root / "home"), "CAI_DATA_ROOT": str(root / "data"),
                   "CAI_CONSTITUTIONS": str(root / "constitutions"), "PYTHONPATH": str(TESTS.parent),
                   "CAI_MODELS__GENERATOR": json.dumps({"source": "scripted", "backend": "scripted"})}

    def started() -> subprocess.Popen[bytes]:
        asked = root / "asked"
        with (root / "out").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", SLOW, "materialize", "mild", "--select", "prompts", "--select",
                 "initial_responses", str(asked)], env=environment, stdout=output, stderr=output, cwd=root,
                start_new_session=True)
        until(lambda: asked.exists() or process.poll() is not None)
        assert process.poll() is None, (root / "out").read_text()
        return process

    return started


def test_a_run_in_the_background_of_a_script_is_ended_by_sigterm_as_canceled(
    root: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    process = start()
    process.send_signal(signal.SIGTERM)
    until(lambda: process.poll() is not None)
    said = (root / "out").read_text().splitlines()
    assert (process.returncode, said[-1]) == (130, INTERRUPTED)
    half = "No principle has a preference request: the supervised half alone."
    assert [line for line in said if not line.startswith(("mild-v1-", "✓ ", half))] == [INTERRUPTED]
    with dg.DagsterInstance.from_config(str(root / "home")) as instance:
        (run,) = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.CANCELED
        assert run.remote_job_origin is not None
        assert run.remote_job_origin.repository_origin.get_label() == "__repository__@cai_assets"
        assert run.tags["cai/constitution"] == "mild"
        assert run.tags["cai/version"] == run.tags["dagster/partition"]
        assert run.tags["cai/scale"] == "smoke"


def test_terminate_ends_it_and_a_killed_one_is_found_dead(
    root: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    process = start()
    with dg.DagsterInstance.from_config(str(root / "home")) as instance:
        assert isinstance(instance.run_launcher, Launcher)
        (run,) = instance.get_runs()
        assert instance.run_launcher.check_run_worker_health(run).status.value == "RUNNING"
        assert instance.run_coordinator.cancel_run(run.run_id)  # as the UI's Terminate does
        until(lambda: process.poll() is not None)
        assert process.returncode == 130
        assert [r.status for r in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED]

        (root / "asked").unlink()
        killed = start()
        killed.kill()
        killed.wait()
        left = next(r for r in instance.get_runs() if not r.is_finished)
        health = instance.run_launcher.check_run_worker_health(left)
        assert (health.status.value, health.msg) == ("FAILED", DIED)
        stored = instance.get_run_by_id(left.run_id)
        assert stored is not None
        assert stored.tags["dagster/max_retries"] == "0"
