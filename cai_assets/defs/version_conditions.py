"""Our own automation conditions: which kind of version a partition is.

Dagster's conditions cannot tell partitions apart by name. Guarantees: automation requests no derived version, neither
when it is registered nor when something upstream changes: sixteen training runs must not start because someone asked
what one principle does. And a change of an unversioned asset (prompts, initial responses) starts the versions that the
weekly schedule would, not every version ever registered. Custom conditions are evaluated in the code location,
not in Dagster's daemon: the sensor says ``use_user_code_server``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import Any

import dagster as dg

from cai_assets.settings import load_settings
from cai_assets.store.layout import Layout
from cai_assets.versions.archive import Archive
from cai_assets.versions.derived import Derivations
from cai_assets.versions.snapshots import Snapshots


class _OfVersions(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of some versions, as recorded at evaluation time."""

    @abstractmethod
    def among(self, keys: Collection[str], layout: Layout) -> Collection[str]:
        """Those of all partition keys for which it is true."""

    def evaluate(self, context: Any) -> dg.AutomationResult[dg.AssetKey]:
        subset = context.candidate_subset
        if subset.is_empty or subset.partitions_def is None:
            return dg.AutomationResult(context, context.get_empty_subset())
        every = context.asset_graph_view.get_full_subset(key=context.key).expensively_compute_partition_keys()
        chosen = self.among(every, Layout(load_settings().data_root))
        return dg.AutomationResult(context, subset.compute_intersection_with_partition_keys(set(chosen)))


class OfDerivedVersion(_OfVersions):
    """True for partitions of derived versions and their rounds."""

    @property
    def name(self) -> str:
        """How the Automation page calls it."""
        return "of_derived_version"

    def among(self, keys: Collection[str], layout: Layout) -> Collection[str]:
        return Derivations(layout).among(keys)


class OfNewestVersion(_OfVersions):
    """True for the newest version (or round) of each constitution, archived and derived ones left out."""

    @property
    def name(self) -> str:
        """How the Automation page calls it."""
        return "of_newest_version"

    def among(self, keys: Collection[str], layout: Layout) -> Collection[str]:
        return newest_versions(keys, layout)


def newest_versions(keys: Collection[str], layout: Layout) -> list[str]:
    """What reruns automatically: each constitution's last registered version that is neither archived nor derived."""
    snapshots, wanted = Snapshots(layout), set(keys) - Archive(layout).archived() - Derivations(layout).among(keys)
    return sorted({snapshots.load(key).name: key for key in snapshots.known() if key in wanted}.values())
