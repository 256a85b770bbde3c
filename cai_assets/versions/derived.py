"""Which registered versions were derived from another one, and how: for comparison, not for use.

Guarantees: nothing is ever deleted; ``constitutions-derived.json`` only grows; two processes at once lose nothing. A
derived version is recorded before it is registered, so it is never mistaken for a hand-written one. It is a version
like any other, can be planned, materialized and traced, and has rounds; but schedules and automation leave it out,
and it is compared with the version it comes from. A version that was registered by hand before is never marked.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from cai_assets.constitution.derive import DerivationKind, Derived
from cai_assets.store.journal import Journal
from cai_assets.store.layout import Layout
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Snapshots

DERIVED = "constitutions-derived.json"


class Origin(NamedTuple):
    """Where a derived version comes from. ``seed`` is added to the settings' seed when it is made."""

    key: str
    version: str
    kind: DerivationKind
    principle: str | None
    seed: int


class Derivations:
    """The derived versions under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._snapshots = Snapshots(layout)
        self._journal = Journal(layout, DERIVED)

    def register(self, version: str, derived: Derived) -> str:
        """Store a derived version's snapshot and its origin; return its partition key. Raise UnknownVersion, KeyTaken.

        Two versions may have one derived version in common: then it has two origins.
        """
        self._snapshots.load(version)
        new = Origin(derived.key, version, derived.kind, derived.principle, derived.seed)

        def missing(entries: list[Any]) -> list[dict[str, Any]]:
            origins = [_origin(e) for e in entries]
            by_hand = new.key in self._snapshots.known() and new.key not in {o.key for o in origins}
            at = datetime.now(UTC).isoformat(timespec="seconds")
            return [] if by_hand or new in origins else [{**new._asdict(), "at": at}]

        self._journal.append(missing)
        return self._snapshots.register(derived.constitution)

    def origin(self, key: str) -> Origin | None:
        """Where the version of this partition, or round of it, comes from first; None for one that is not derived."""
        version = round_of(key).version
        return next((o for o in self.origins() if o.key == version), None)

    def origins(self) -> list[Origin]:
        """Every origin, oldest first."""
        return [_origin(e) for e in self._journal.entries()]

    def among(self, keys: Iterable[str]) -> set[str]:
        """Those of the partition keys that are of derived versions, their rounds included."""
        known = {o.key for o in self.origins()}
        return {key for key in keys if round_of(key).version in known}


def _origin(entry: dict[str, Any]) -> Origin:
    kind = cast("DerivationKind", entry["kind"])
    return Origin(entry["key"], entry["version"], kind, entry["principle"], entry["seed"])
