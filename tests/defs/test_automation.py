"""Automation, measured by counting: stand-ins with the real graph's keys, edges, partitions and conditions are run
as Dagster's daemon would run them, and each asset's runs are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import dagster as dg
import pytest

from cai_assets.definitions import defs
from cai_assets.lineage.snapshots import VERSIONS

SPECS = list(defs.resolve_all_asset_specs())
CHECKS = [c for d in defs.asset_checks or () for c in d.check_specs if c.blocking]
NAMES = {s.key.to_user_string() for s in SPECS}
PARTITIONED = {s.key.to_user_string() for s in SPECS if s.partitions_def is not None}
BELOW_INITIAL = PARTITIONED - {"constitution"}


class Daemon:
    """Evaluates the conditions and runs what they request, one run for each partition, as Dagster groups them."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.prompts = "one"
        self.failing: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.runs = 0
        self.assets = [self._stand_in(spec) for spec in SPECS]
        self.checks = [self._check(spec.key, spec.partitions_def) for spec in CHECKS]
        self.defs = dg.Definitions(assets=self.assets, asset_checks=self.checks)
        self.cursor = None

    def _stand_in(self, spec: dg.AssetSpec) -> dg.AssetsDefinition:
        name = spec.key.to_user_string()

        @dg.asset(name=name, deps=spec.deps, partitions_def=spec.partitions_def, code_version=spec.code_version,
                  automation_condition=spec.automation_condition)
        def stand_in(context) -> dg.MaterializeResult:  # type: ignore[no-untyped-def,type-arg]
            self.counts[name] += 1
            if name in self.failing:
                raise RuntimeError("failed on purpose")
            inputs = "" if name == "constitution" else self.prompts
            partition = context.partition_key if name in PARTITIONED else ""
            return dg.MaterializeResult(data_version=dg.DataVersion(f"{name}:{inputs}:{partition}"))

        return stand_in

    def _check(self, key: dg.AssetCheckKey, partitions: dg.PartitionsDefinition | None) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=key.asset_key, name=key.name, blocking=True, partitions_def=partitions)
        def stand_in() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=f"{key.asset_key.to_user_string()} check" not in self.failing)

        return stand_in

    def run(self, names: set[str], partition: str | None) -> None:
        self.runs += 1
        dg.materialize([*self.assets, *self.checks], selection=sorted(names), partition_key=partition,
                       instance=self.instance, raise_on_error=False)

    def settle(self, ticks: int = 8) -> tuple[dict[str, int], int]:
        """Tick until nothing more is asked for; return the counts by asset and the number of runs since the last."""
        for _ in range(ticks):
            result = dg.evaluate_automation_conditions(defs=self.defs, instance=self.instance, cursor=self.cursor)
            self.cursor = result.cursor
            wanted: dict[str | None, set[str]] = {}
            for name in sorted(NAMES):
                for partition in result.get_requested_partitions(dg.AssetKey(name)):
                    wanted.setdefault(partition, set()).add(name)
            for partition, names in wanted.items():
                self.run(names, partition)
            if not wanted:
                break
        counts, runs = dict(self.counts), self.runs
        self.counts.clear()
        self.runs = 0
        return counts, runs


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Two versions, everything materialised by hand, automation at rest."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, ["a", "b"])
        made = Daemon(instance)
        made.settle()
        made.run(NAMES - PARTITIONED - {"comparison"}, None)
        for version in ("a", "b"):
            made.run(PARTITIONED, version)
        made.settle()
        assert made.settle() == ({}, 0)
        yield made


def test_the_same_data_again_runs_nothing(daemon: Daemon) -> None:
    daemon.run({"prompts"}, None)
    assert daemon.settle() == ({"prompts": 1}, 1)
    daemon.run({"critiques", "revisions"}, "a")
    assert daemon.settle() == ({"critiques": 1, "revisions": 1}, 1)


def test_a_new_version_is_one_run_with_each_asset_once(daemon: Daemon) -> None:
    daemon.instance.add_dynamic_partitions(VERSIONS, ["c"])
    assert daemon.settle() == (dict.fromkeys(PARTITIONED, 1), 1)


def test_two_versions_at_once_are_two_runs(daemon: Daemon) -> None:
    daemon.instance.add_dynamic_partitions(VERSIONS, ["c", "d"])
    assert daemon.settle() == (dict.fromkeys(PARTITIONED, 2), 2)


def test_changed_prompts_run_each_asset_once_for_each_version(daemon: Daemon) -> None:
    daemon.prompts = "two"
    daemon.run({"prompts"}, None)
    counts, _ = daemon.settle()
    assert counts == {"prompts": 1, "initial_responses": 1, "sft_baseline": 1, **dict.fromkeys(BELOW_INITIAL, 2)}


def test_a_failing_asset_does_not_loop(daemon: Daemon) -> None:
    daemon.failing = {"revisions"}
    daemon.instance.add_dynamic_partitions(VERSIONS, ["c"])
    counts, runs = daemon.settle()
    assert counts["revisions"] == 1
    assert "sl_policy" not in counts
    assert runs == 1


def test_a_failed_blocking_check_stops_what_is_below_it_once(daemon: Daemon) -> None:
    daemon.failing = {"revisions check"}
    daemon.instance.add_dynamic_partitions(VERSIONS, ["c"])
    counts, runs = daemon.settle()
    assert (counts["revisions"], runs) == (1, 1)
    assert "sl_dataset" not in counts
