"""The first commands on an empty home, at the same moment; and homes that an earlier race, or a full disk, left."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from patience import Watch, until
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.defs.home import HomeProblem, open_instance
from cai_assets.versions.snapshots import VERSIONS

pytestmark = pytest.mark.fault("first commands at the same moment, and homes that are half made")

REPOSITORY = Path(__file__).parents[2]
FIRST = """
import sys, time
from pathlib import Path
from cai_assets.defs.home import open_instance
from cai_assets.versions.snapshots import VERSIONS
ready, go, name = (*map(Path, sys.argv[1:3]), sys.argv[3])
ready.touch()
while not go.exists():
    time.sleep(0.001)
with open_instance() as instance:
    instance.add_dynamic_partitions(VERSIONS, [name, "common"])
"""


def race(home: Path, processes: int) -> list[str]:
    """Open an empty home in so many processes at once; return what those said that did not succeed."""
    home.mkdir()
    go, ready = home.with_name(f"{home.name}.go"), [home.with_name(f"{home.name}.{i}") for i in range(processes)]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    running = [subprocess.Popen([sys.executable, "-c", FIRST, str(file), str(go), f"v{i}"], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
               for i, file in enumerate(ready)]
    watch = Watch(home.parent, processes=[os.getpid()])
    until(lambda: all(file.exists() for file in ready) or any(p.poll() for p in running), watch)
    go.touch()
    said = [p.communicate()[0] for p in running]
    return [text for p, text in zip(running, said, strict=True) if p.returncode]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def first_starts(home: Path, processes: int) -> bool:
    """Whether all succeed, and the home can be opened afterwards and has what each of them wrote."""
    failed = race(home, processes)
    assert failed == []
    with open_instance() as instance:
        assert set(instance.get_dynamic_partitions(VERSIONS)) == {"common", *(f"v{i}" for i in range(processes))}
    return True


def test_first_commands_at_the_same_moment_all_work(home: Path) -> None:
    assert first_starts(home, 3)


@pytest.mark.long
@pytest.mark.parametrize("number", range(12))
def test_first_commands_at_the_same_moment_all_work_time_after_time(home: Path, number: int) -> None:
    assert first_starts(home, 2 + number % 5)


def two_heads(home: Path) -> None:
    with sqlite3.connect(home / "history" / "runs.db") as database:
        database.execute("insert into alembic_version values ('00000000')")


def no_tables(home: Path) -> None:
    (home / "history" / "runs" / "index.db").write_bytes(b"")


def torn(home: Path) -> None:
    database = home / "schedules" / "schedules.db"
    database.write_bytes(database.read_bytes()[:5000])


def other_bytes(home: Path) -> None:
    (home / "history" / "runs.db").write_bytes(b"not a database" * 1000)


@pytest.mark.parametrize("spoil", [two_heads, no_tables, torn, other_bytes])
def test_a_half_made_home_is_named_with_what_to_delete(home: Path, spoil: object) -> None:
    open_instance().dispose()
    spoil(home)  # type: ignore[operator]
    with pytest.raises(HomeProblem) as e:
        open_instance()
    assert "\n" not in str(e.value)
    assert f"delete {home}/history and {home}/schedules" in str(e.value)
    assert "history of runs is lost" in str(e.value)
    for name in ("history", "schedules"):
        subprocess.run(["rm", "-r", str(home / name)], check=True)
    with open_instance() as instance:
        assert instance.get_dynamic_partitions(VERSIONS) == []


def test_a_command_on_a_half_made_home_ends_in_one_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    open_instance().dispose()
    two_heads(home)
    result = CliRunner().invoke(app, ["register"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "more than one head" in result.stderr
