"""Full disks and read-only folders end in one line with what to do, and the command works once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner, Result

from cai_assets.cli import app
from cai_assets.defs import execute

pytestmark = pytest.mark.fault("disks that are full, too small, or read-only, command by command")

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(PROJECT / "constitutions"))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def one_line(result: Result) -> str:
    assert result.exit_code in {1, 2}, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Mount a small or read-only disk on a folder."""
    mounted: list[Path] = []

    def mount(name: str, options: str) -> None:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        known = ["mount", "-o", f"remount,{options}", path] if path in mounted else [
            "mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
        if subprocess.run(known, check=False, capture_output=True).returncode:
            pytest.skip("this user may not mount a disk")
        mounted.append(path)

    yield mount
    for path in set(mounted):
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize("name", ["home", "data"])
def test_a_full_disk(command: Callable[..., Result], small: Callable[[str, str], None], name: str) -> None:
    small(name, "size=16k")
    line = one_line(command("register"))
    assert "No space left" in line or "disk is full" in line or "disk I/O error" in line
    assert f"/{name}" in line
    assert "run the command again" in line
    small(name, "size=20m")
    if name == "home":  # what the first try left of Dagster's own files
        for left in ("history", "schedules"):
            subprocess.run(["rm", "-rf", os.path.join(os.environ["DAGSTER_HOME"], left)], check=True)
    assert command("register").exit_code == 0


@pytest.mark.parametrize("name", ["home", "data"])
def test_a_read_only_disk(command: Callable[..., Result], small: Callable[[str, str], None], name: str) -> None:
    small(name, "ro")
    line = one_line(command("register"))
    assert "Read-only" in line or "readonly" in line
    assert name in line


@pytest.mark.parametrize(("reason", "remedy"), [
    ("database or disk is full", "free space or permit writing there"),
    ("attempt to write a readonly database", "free space or permit writing there"),
    ("no such table: runs", "delete"),
])
def test_a_home_that_fails_in_the_middle_of_a_run(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, reason: str, remedy: str
) -> None:
    assert command("register").exit_code == 0

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("INSERT INTO event_logs", {}, Exception(reason))

    monkeypatch.setattr(execute, "materialize", fail)
    line = one_line(command("materialize", "customer-service-v1-b4ae6e95"))
    assert reason in line
    assert remedy in line
    assert os.environ["DAGSTER_HOME"] in line


def test_links_in_a_circle_and_a_file_are_no_data_root(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, file = tmp_path / "one", tmp_path / "two", tmp_path / "file"
    one.symlink_to(two)
    two.symlink_to(one)
    file.touch()
    for root in (one, file):
        monkeypatch.setenv("CAI_DATA_ROOT", str(root))
        for arguments in (("register",), ("store", "stats"), ("plan", "customer-service")):
            assert str(root) in one_line(command(*arguments))


def test_a_registered_version_needs_no_partition_in_a_new_home(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("register").exit_code == 0
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "another"))
    made: list[str] = []

    def materialize(_: object, version: str, **__: object) -> None:
        made.append(version)
        raise SystemExit

    monkeypatch.setattr(execute, "materialize", materialize)
    command("materialize", "customer-service-v1-b4ae6e95")
    assert made == ["customer-service-v1-b4ae6e95"]
