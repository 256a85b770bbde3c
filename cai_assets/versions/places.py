"""Which version is newer: its place among the versions of its constitution, in the order of registration."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Snapshots

ENDINGS = {1: "st", 2: "nd", 3: "rd"}


class Place(NamedTuple):
    """``number`` from 1, of ``of`` versions and rounds of one constitution. ``registered``: None for a later round."""

    number: int
    of: int
    registered: datetime | None

    @property
    def ordinal(self) -> str:
        """'3rd of 5'."""
        teen = self.number % 100 in {11, 12, 13}
        return f"{self.number}{'th' if teen else ENDINGS.get(self.number % 10, 'th')} of {self.of}"

    @property
    def day(self) -> str:
        """When it was registered, to the minute, in this machine's time zone."""
        return f"{self.registered:%Y-%m-%d %H:%M}" if self.registered else ""

    def __str__(self) -> str:
        """'3rd of 5, registered 2026-05-01 12:00'."""
        return f"{self.ordinal}, registered {self.day}" if self.day else self.ordinal


def places(snapshots: Snapshots) -> dict[str, Place]:
    """The place of every version and round that is known."""
    times, of = snapshots.times(), dict[str, list[str]]()
    for key in snapshots.known():
        of.setdefault(snapshots.load(key).name, []).append(key)
    return {key: Place(number, len(keys), _time(times, key))
            for keys in of.values() for number, key in enumerate(keys, start=1)}


def _time(times: dict[str, float], key: str) -> datetime | None:
    """Of a round there is none: its file is that of the first."""
    return datetime.fromtimestamp(times[key]).astimezone() if round_of(key).number == 1 and key in times else None
