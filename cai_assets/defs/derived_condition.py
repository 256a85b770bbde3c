"""The one automation condition of our own: whether a partition is of a derived version.

Dagster's conditions cannot tell partitions apart by name. Guarantee: automation asks for no derived version, neither
when it is registered nor when something above it changes: sixteen trainings must not start because somebody asked
what one principle does. Conditions of one's own are evaluated in the code location, not in Dagster's daemon: the
sensor says ``use_user_code_server``.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from cai_assets.lineage.derived import Derivations
from cai_assets.lineage.layout import Layout
from cai_assets.settings import load_settings


class OfDerivedVersion(dg.AutomationCondition[dg.AssetKey]):
    """True for partitions of derived versions and their rounds, as recorded at the time of looking."""

    @property
    def name(self) -> str:
        """How the Automation page calls it."""
        return "of_derived_version"

    def evaluate(self, context: Any) -> dg.AutomationResult[dg.AssetKey]:
        subset = context.candidate_subset
        if subset.is_empty or subset.partitions_def is None:
            return dg.AutomationResult(context, context.get_empty_subset())
        known = Derivations(Layout(load_settings().data_root))
        derived = known.among(subset.expensively_compute_partition_keys())
        return dg.AutomationResult(context, subset.compute_intersection_with_partition_keys(derived))
