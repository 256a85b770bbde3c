"""Rounds: supervised and reinforcement learning in turns, the RL policy of one starting the next.

A round has its own partition, ``<version>-r<number>``; the first has the plain name of the version. All rounds of
a version share its snapshot: what differs is the policy they start from.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LATER = re.compile(r"(?P<version>.+-[0-9a-f]{8})-r(?P<number>[2-9]|[1-9][0-9]{1,2})")


class Round(NamedTuple):
    """A constitution version and the number of the round, from 1."""

    version: str
    number: int

    @property
    def key(self) -> str:
        """The partition key."""
        return self.version if self.number == 1 else f"{self.version}-r{self.number}"

    def next(self) -> Round:
        return Round(self.version, self.number + 1)

    def before(self) -> Round | None:
        """The round whose RL policy starts this one; None for the first."""
        return Round(self.version, self.number - 1) if self.number > 1 else None


def round_of(key: str) -> Round:
    """The round that a partition key names."""
    later = LATER.fullmatch(key)
    return Round(later["version"], int(later["number"])) if later else Round(key, 1)
