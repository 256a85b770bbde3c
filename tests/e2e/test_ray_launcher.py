"""Runs of the pages as jobs of a real Ray cluster on loopback, as ``deploy/dagster.ray.yaml`` has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from patience import until
from server import REPOSITORY, free_port, graphql, serving, wait_for
from test_terminate import PARTITIONS, STATUS, TERMINATE, launch, trainers
from tiny_models import tiny_model

pytest.importorskip("dagster_ray")

pytestmark = [pytest.mark.model, pytest.mark.long]
HERE = "127.0.0.2"  # Ray replaces 127.0.0.1 by the address of the machine
RAY = Path(sys.executable).parent / "ray"


@pytest.fixture
def jobs_address() -> Iterator[str]:
    """Of a Ray cluster of its own."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a socket's path must be short
    port, dashboard = free_port(), free_port()
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([RAY, "start", "--head", f"--node-ip-address={HERE}", f"--port={port}", f"--dashboard-host={HERE}",
                    f"--dashboard-port={dashboard}", "--num-cpus=4", f"--temp-dir={folder}", "--disable-usage-stats",
                    "--object-store-memory=100000000"], check=True, env=environment)
    yield f"http://{HERE}:{dashboard}"
    for process in _with(folder):  # what this cluster has started, and nobody else's
        with suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _with(text: str) -> list[psutil.Process]:
    """Processes that have it in their command line."""
    return [p for p in psutil.process_iter(["cmdline"]) if any(text in word for word in p.info["cmdline"] or [])]


def instance() -> str:
    """``deploy/dagster.ray.yaml`` with what it keeps on this disk."""
    content = yaml.safe_load((REPOSITORY / "deploy" / "dagster.ray.yaml").read_text())
    del content["storage"], content["compute_logs"]
    launcher = content["run_launcher"]["config"]["ray"]
    launcher |= {"num_cpus": 1, "env_vars": ["PATH", "DAGSTER_HOME", "CAI_DATA_ROOT", "RAY_JOBS_ADDRESS", "PYTHONPATH",
                                             *SETTINGS]}
    return yaml.safe_dump(content)


SETTINGS = {"CAI_SL__EPOCHS": "100000", "CAI_SL__MAX_LENGTH": "64", "CAI_PROMPTS__RED_TEAM": "4",
            "CAI_PROMPTS__HELPFUL": "2", "CAI_MODELS__GENERATOR": ""}


def test_two_versions_train_side_by_side_and_terminated_they_leave_nothing(
    jobs_address: str, tmp_path: Path
) -> None:
    model = {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}
    environment = {**SETTINGS, "CAI_MODELS__GENERATOR": json.dumps(model), "RAY_JOBS_ADDRESS": jobs_address,
                   "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(REPOSITORY),
                   "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with serving(tmp_path, environment, instance=instance()) as url:
        subprocess.run([Path(sys.executable).parent / "dagster", "instance", "concurrency", "set", "gpu", "2"],
                       check=True, env={**os.environ, **environment, "DAGSTER_HOME": str(tmp_path / "home")})
        versions = wait_for(lambda: graphql(url, PARTITIONS)["assetNodeOrError"]["partitionKeys"], tmp_path)
        runs = [launch(url, version) for version in versions[:2]]
        wait_for(lambda: len(_jobs(tmp_path)) >= 2, tmp_path)
        for run in runs:
            graphql(url, TERMINATE, id=run)
        for run in runs:
            until(lambda run=run: graphql(url, STATUS, id=run)["runOrError"]["status"] == "CANCELED")
        until(lambda: not trainers(tmp_path) and not _steps(runs))
    assert not list((tmp_path / "data" / "checkpoints").rglob("record.json"))


def _jobs(root: Path) -> set[str]:
    """The trainings that go on."""
    return {words[-1] for process in trainers(root) if (words := process.cmdline())}


def _steps(runs: list[str]) -> list[psutil.Process]:
    """Processes of these runs."""
    return [process for run in runs for process in _with(run)]
