"""What one run, or one command, remembers: the files that it has read in full, and what it has told.

Nothing here outlives it, so that each run reads again what it uses: a disk may change bytes and no date.
"""

from __future__ import annotations

import logging

LOG = logging.getLogger("cai_assets")
read: dict[str, tuple[object, str]] = {}
"""By path: the file's state when it was read, and its digest."""
_told: set[str] = set()


def begin() -> None:
    """Forget what an earlier run in this process has read and told."""
    read.clear()
    _told.clear()


def tell(line: str) -> None:
    """Warn a person, once: on stderr, and in Dagster's log of the run (``defs/resources.py``)."""
    if line not in _told:
        _told.add(line)
        LOG.warning(line)
