"""Archived constitution versions: kept intact, and left out of most views.

Guarantees: nothing is ever deleted; a version is archived or not by its last entry in an append-only list
(``constitutions-archived.json``), so its history stays readable; two processes at once lose nothing.
Archiving is only a mark: an archived version can still be loaded, traced and materialized.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cai_assets.store.journal import Journal
from cai_assets.store.layout import Layout
from cai_assets.versions.snapshots import Snapshots

ARCHIVED = "constitutions-archived.json"


class Archive:
    """Which registered versions are archived, under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._snapshots = Snapshots(layout)
        self._journal = Journal(layout, ARCHIVED)

    def archive(self, key: str) -> bool:
        """Mark a version as archived; return False if it was already. Raise UnknownVersion for an unknown key."""
        return self._mark(key, archived=True)

    def restore(self, key: str) -> bool:
        """Undo ``archive``; return False if it was not archived. Raise UnknownVersion for an unknown key."""
        return self._mark(key, archived=False)

    def archived(self) -> set[str]:
        """Partition keys of the archived versions."""
        return _archived(self._journal.entries())

    def _mark(self, key: str, *, archived: bool) -> bool:
        self._snapshots.load(key)
        entry = {"key": key, "archived": archived, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        return self._journal.append(lambda entries: [] if (key in _archived(entries)) == archived else [entry])


def previous(key: str, snapshots: Snapshots) -> str | None:
    """The version (or round) of the same constitution that was registered before ``key``; None for the first one.

    The first registration counts: going back to an earlier text registers nothing new. Raise UnknownVersion.
    """
    name = snapshots.load(key).name
    known = snapshots.known()
    earlier = reversed(known[: known.index(key)] if key in known else known)  # a round is listed once it has begun
    return next((k for k in earlier if snapshots.load(k).name == name), None)


def _archived(entries: Sequence[dict[str, Any]]) -> set[str]:
    return {key for key, archived in {e["key"]: e["archived"] for e in entries}.items() if archived}
