"""Constitution versions as partitions: one key per version, never deleted (deleting breaks the Automation page)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from cai_assets.lineage.snapshots import Snapshots, scan

versions = dg.DynamicPartitionsDefinition(name="constitution_version")
VERSIONS = "constitution_version"

# Assets that know nothing of a constitution, or compare all of them.
UNPARTITIONED = frozenset({"prompts", "initial_responses", "sft_baseline", "comparison"})


def register_folder(folder: Path, snapshots: Snapshots) -> tuple[list[str], list[str]]:
    """Snapshot every constitution file of a folder; return (partition keys, problems)."""
    constitutions, problems = scan(folder)
    return [snapshots.register(c) for c in constitutions], problems


def newest_per_name(keys: Sequence[str], snapshots: Snapshots) -> list[str]:
    """The last registered version of each constitution."""
    newest: dict[str, str] = {}
    for key in keys:
        newest[snapshots.load(key).name] = key
    return sorted(newest.values())
