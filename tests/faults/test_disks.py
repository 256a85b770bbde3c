"""Disks that fill up and folders that may not be written: a line says so, and the work goes on when there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import CONSTITUTION, FIRST_HALF, ended, small_project

SMALL_DISK = Path(__file__).with_name("small_disk.py")
IN_A_NAMESPACE = ["unshare", "--mount", "--map-root-user"]

pytestmark = pytest.mark.skipif(
    subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="this system gives no mount namespace")


def problems(project: Path, folder: str, size: str) -> str:
    """What went wrong on such a disk; empty if nothing did."""
    command = [*IN_A_NAMESPACE, sys.executable, str(SMALL_DISK), str(project), str(project / folder), size]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@pytest.mark.long
@pytest.mark.fault("a disk that is full in the middle of a run, and has room again")
@pytest.mark.parametrize(("folder", "size"), [("data", "60k"), ("data", "120k"), ("dagster_home", "700k")])
def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path, folder: str, size: str) -> None:
    assert problems(small_project(tmp_path / "project"), folder, size) == ""


@pytest.mark.long
@pytest.mark.fault("a data root or a Dagster home that may only be read, command by command")
@pytest.mark.parametrize("folder", ["data", "dagster_home"])
def test_every_command_on_a_read_only_folder_ends_in_words(tmp_path: Path, folder: str) -> None:
    project = small_project(tmp_path / "project")
    code, output = ended(project, "materialize", CONSTITUTION, *FIRST_HALF)
    assert code == 0, output
    assert problems(project, folder, "ro") == ""
