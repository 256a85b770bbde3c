"""Constitution versions as partitions: one key per version, never deleted (deleting breaks the Automation page)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

import dagster as dg

from cai_assets.lineage.snapshots import VERSIONS, KeyTaken, Snapshots, scan

versions = dg.DynamicPartitionsDefinition(name=VERSIONS)


def register_folder(folder: Path, snapshots: Snapshots) -> tuple[list[str], list[str]]:
    """Snapshot every constitution file of a folder; return (partition keys, problems)."""
    constitutions, problems = scan(folder)
    keys = []
    for constitution in constitutions:
        try:
            keys.append(snapshots.register(constitution))
        except KeyTaken as e:
            problems.append(str(e))
    return keys, problems


def newest_per_name(keys: Sequence[str], snapshots: Snapshots, archived: Set[str] = frozenset()) -> list[str]:
    """The last registered version of each constitution; none of those that are archived."""
    newest: dict[str, str] = {}
    for key in (k for k in snapshots.known() if k in set(keys) - archived):
        newest[snapshots.load(key).name] = key
    return sorted(newest.values())
