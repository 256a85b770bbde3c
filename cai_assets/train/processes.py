"""The processes of one training, as the launcher numbers them."""

from __future__ import annotations

import os


def processes() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))
