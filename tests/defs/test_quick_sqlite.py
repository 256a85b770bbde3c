"""Dagster's history without a wait for the disk after each event."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from sqlalchemy import NullPool, create_engine, text

from cai_assets.defs.quick_sqlite import use_quick_sqlite

WRITES = """
import os, signal, sys
from sqlalchemy import NullPool, create_engine, text
from cai_assets.defs.quick_sqlite import use_quick_sqlite
use_quick_sqlite()
for number in range(3):
    with create_engine(f"sqlite:///{sys.argv[1]}", poolclass=NullPool).begin() as connection:
        connection.execute(text("PRAGMA journal_mode=WAL"))
        connection.execute(text("CREATE TABLE IF NOT EXISTS events (number)"))
        connection.execute(text(f"INSERT INTO events VALUES ({number})"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_commit_does_not_wait_and_the_log_stays(tmp_path: Path) -> None:
    use_quick_sqlite()
    file = tmp_path / "runs.db"
    for _ in range(2):  # the file gets its log by the first
        with create_engine(f"sqlite:///{file}", poolclass=NullPool).begin() as connection:
            connection.execute(text("PRAGMA journal_mode=WAL"))
            connection.execute(text("CREATE TABLE IF NOT EXISTS events (number)"))
            connection.execute(text("INSERT INTO events VALUES (0)"))
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
    assert file.with_name("runs.db-wal").stat().st_size > 0


def test_what_a_killed_process_wrote_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITES, str(tmp_path / "runs.db")]
    killed = subprocess.run(command, env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        assert connection.execute("SELECT number FROM events").fetchall() == [(0,), (1,), (2,)]


def test_dagster_gets_one_engine_for_a_file(tmp_path: Path) -> None:
    use_quick_sqlite()
    storages = [SqliteEventLogStorage(str(tmp_path / "events")), SqliteRunStorage.from_local(str(tmp_path / "runs")),
                SqliteScheduleStorage.from_local(str(tmp_path / "schedules"))]
    engines: list[set[int]] = []
    for storage in storages:
        engines.append(set())
        for _ in range(2):
            with storage.connect() if not isinstance(storage, SqliteEventLogStorage) else storage.index_connection(
            ) as connection:
                engines[-1].add(id(connection.engine))
    assert [len(of) for of in engines] == [1, 1, 1]
    assert len(set.union(*engines)) == 3
