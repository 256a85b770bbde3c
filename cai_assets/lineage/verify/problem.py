"""What a check reports, and what all checks share."""

from __future__ import annotations

import json
from typing import NamedTuple

RESTORE = "restore it from a copy of the data root"


class Problem(NamedTuple):
    """One artifact that is missing or was changed."""

    kind: str
    path: str
    what: str
    todo: str


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def first(error: Exception) -> str:
    """The first line of a message."""
    return (str(error) or type(error).__name__).split("\n", maxsplit=1)[0]
