"""Dagster's home, where its storage lies: opened by one process at a time, because Dagster makes it when it first opens
it, and two that make it at once leave one that nobody can open. A home that was left so is named, with what to delete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cai_assets.defs.quick_sqlite import use_quick_sqlite
from cai_assets.errors import CaiError
from cai_assets.settings import project_root
from cai_assets.store.files import locked
from cai_assets.versions.snapshots import VERSIONS

if TYPE_CHECKING:
    import dagster as dg

LOCK = ".opening.lock"
HALF_MADE = re.compile(r"more than one head|no such (table|column)|already exists|not a database|malformed|"
                       r"UNIQUE constraint failed: alembic_version|Can't locate revision|currently does not exist",
                       re.IGNORECASE)
DATABASE = ("alembic", "sqlalchemy", "sqlite3", "dagster")  # packages whose errors are looked at
REFUSED = re.compile(r"disk is full|readonly database|unable to open database file|disk I/O error|is locked",
                     re.IGNORECASE)


class HomeProblem(CaiError):
    """Dagster's home cannot be used. The message says why, and what to do."""


def use_project_home() -> Path:
    """Point DAGSTER_HOME at the project's folder, unless the caller has chosen one."""
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(project_root() / "dagster_home")))
    home.mkdir(parents=True, exist_ok=True)
    return home


def open_instance() -> dg.DagsterInstance:
    """The project's own instance, or the one that the caller has chosen. Raise HomeProblem."""
    import dagster as dg  # here: it takes a second, which whoever only wants to know the home's place need not wait

    home = use_project_home()
    use_quick_sqlite()
    with locked(home / LOCK), explained():
        instance = dg.DagsterInstance.get()
        instance.get_dynamic_partitions(VERSIONS)  # each of the three storages is opened, and so made
        instance.get_runs_count()
        instance.all_instigator_state()
    return instance


@contextmanager
def explained() -> Iterator[None]:
    """Whatever Dagster's database refuses becomes HomeProblem."""
    try:
        yield
    except Exception as e:
        if type(e).__module__.startswith(DATABASE) and (why := explain(str(e))):
            raise HomeProblem(why) from None
        raise


def explain(error: str) -> str | None:
    """What to do about an error of Dagster's database, if it is one of the home."""
    home, reason = os.environ["DAGSTER_HOME"], error.split("\n", maxsplit=1)[0]
    if HALF_MADE.search(error):
        return (f"Dagster's home {home} was left half-made by a first start that was disturbed ({reason}): delete "
                f"{home}/history and {home}/schedules, and run the command again. Dagster's history of runs is lost; "
                "rows, checkpoints, records, and constitutions are not: they lie in the data root")
    if REFUSED.search(error):
        return (f"Dagster's home {home} cannot be written ({reason}): free space or permit writing there, or set "
                "DAGSTER_HOME to another folder, and run the command again: finished work is kept")
    return None
