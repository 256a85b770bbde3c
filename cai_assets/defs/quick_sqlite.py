"""Dagster's SQLite files without a wait for the disk after each event.

Dagster opens a connection for every event, and closes it: each commit waits for the disk, and the last to close writes
the file's log back. A run of some hundred events spends most of its time so. While another connection is open the log
stays, and ``synchronous=NORMAL`` waits for the disk only where it is written back: what a killed process has written is
kept; after a power cut the file is whole, but its last events may be gone. What a run made lies in the data root, whose
writers wait for the disk themselves.
"""

from __future__ import annotations

import sqlite3
from functools import cache, lru_cache
from typing import Any


@cache
def use_quick_sqlite() -> None:
    """For every connection that SQLAlchemy opens from now on in this process."""
    from sqlalchemy import Engine, event

    event.listen(Engine, "connect", _opened)


def _opened(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")
        if file := connection.execute("PRAGMA database_list").fetchone()[2]:
            # One that has read nothing does not count, nor has what it read before the file had a log.
            _kept_open(file).execute("SELECT count(*) FROM sqlite_master").fetchone()


@lru_cache(maxsize=16)  # of the home in use, and the run's own
def _kept_open(file: str) -> sqlite3.Connection:
    return sqlite3.connect(file, check_same_thread=False)
