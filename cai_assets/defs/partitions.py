"""Constitution versions as partitions: one key per version, never deleted (deleting breaks the Automation page)."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from cai_assets.versions.snapshots import VERSIONS, KeyTaken, Snapshots, scan

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
