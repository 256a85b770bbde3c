"""Dagster's SQLite files without a wait for the disk after each event, and without a new engine for each.

Dagster opens a connection for every event, and closes it: each commit waits for the disk, and the last to close writes
the file's log back. A run of some hundred events spends most of its time so. While another connection is open the log
stays, and ``synchronous=NORMAL`` waits for the disk only where it is written back: what a killed process has written is
kept; after a power cut the file is whole, but its last events may be gone. What a run made lies in the data root, whose
writers wait for the disk themselves.

For each connection Dagster also makes an engine of SQLAlchemy, which looks at the file anew and compiles each statement
that another has compiled before. The modules of its storages get engines that are kept. An engine holds no connection
(NullPool), so that several threads may use one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

FILES = 16  # of the home in use, and the newest runs' own


@cache
def use_quick_sqlite() -> None:
    """For every connection that SQLAlchemy opens from now on in this process."""
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
    from sqlalchemy import Engine, event

    event.listen(Engine, "connect", _opened)
    for storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        storage.create_engine = _engine  # type: ignore[attr-defined]


def _engine(url: str, *, poolclass: Any, connect_args: Mapping[str, Any] | None = None) -> Engine:
    """As ``sqlalchemy.create_engine``, which Dagster calls for every connection."""
    return _kept_engine(url, poolclass, tuple((connect_args or {}).items()))


@lru_cache(maxsize=FILES)
def _kept_engine(url: str, poolclass: Any, connect_args: tuple[tuple[str, Any], ...]) -> Engine:
    from sqlalchemy import create_engine

    return create_engine(url, poolclass=poolclass, connect_args=dict(connect_args))


def _opened(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")
        if file := connection.execute("PRAGMA database_list").fetchone()[2]:
            # One that has read nothing does not count, nor has what it read before the file had a log.
            _kept_open(file).execute("SELECT count(*) FROM sqlite_master").fetchone()


@lru_cache(maxsize=FILES)
def _kept_open(file: str) -> sqlite3.Connection:
    return sqlite3.connect(file, check_same_thread=False)
