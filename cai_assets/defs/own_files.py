"""Dagster's own SQLite files, where the home in use has them: read without Dagster, because importing it is most of the
time of a command that shows a few lines. Any other home, and a file that does not have what is looked for, is Dagster's
to open, and to explain.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cai_assets.defs.home import use_project_home

ELSEWHERE = re.compile(r"""^["']?(storage|run_storage|event_log_storage|instance_class)\b""", re.MULTILINE)
"""Keys of dagster.yaml with which runs or events are not kept in the home's own files."""
MARK = ("SELECT (SELECT count(*) FROM event_logs), (SELECT max(id) FROM event_logs), "
        "(SELECT count(*) FROM dynamic_partitions)")


@contextmanager
def own_file(name: str) -> Iterator[sqlite3.Connection]:
    """One of them, to read. Raise sqlite3.Error, OSError or ValueError where that is not it."""
    with closing(sqlite3.connect(f"{(_folder() / name).resolve().as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def history_mark() -> str:
    """Another one after each event of an asset, and when some of its history or a partition is deleted. Raise as
    ``own_file``."""
    folder = _folder()
    if not folder.exists():
        return f"{folder} is not there yet"
    with own_file("runs/index.db") as connection:
        return f"{folder} {connection.execute(MARK).fetchone()}"


def _folder() -> Path:
    """Where the files are. Raise ValueError where runs or events are kept elsewhere."""
    home = use_project_home()
    settings = home / "dagster.yaml"
    if settings.exists() and ELSEWHERE.search(settings.read_text(encoding="utf-8")):
        raise ValueError(f"{settings}: runs are kept elsewhere")
    return home / "history"
