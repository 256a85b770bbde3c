"""What one run, or one command, remembers: the files that it has read in full, what it has worked out and told.

Nothing here outlives it, so that each run reads again what it uses: a disk may change bytes and no date.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
LOG = logging.getLogger("cai_assets")
read: dict[str, tuple[object, str]] = {}
"""By path: the file's state when it was read, and its digest."""
_worked_out: dict[object, Any] = {}
_told: set[str] = set()


def begin() -> None:
    """Forget what an earlier run in this process has read, worked out and told."""
    read.clear()
    _worked_out.clear()
    _told.clear()


def once(name: object, work: Callable[[], T]) -> T:
    """What ``work`` gives, from the first time that it is asked for under this name."""
    if name not in _worked_out:
        _worked_out[name] = work()
    found: T = _worked_out[name]
    return found


def tell(line: str) -> None:
    """Warn a person, once: on stderr, and in Dagster's log of the run (``defs/resources.py``)."""
    if line not in _told:
        _told.add(line)
        LOG.warning(line)
