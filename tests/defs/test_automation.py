"""Automation, measured by counting: stand-ins with the real graph's keys, edges, partitions and conditions are run
as Dagster's daemon would run them, and each asset's runs are counted."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cai_assets.assets import needed
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.definitions import defs
from cai_assets.defs.jobs import jobs
from cai_assets.store.layout import Layout
from cai_assets.versions.archive import Archive
from cai_assets.versions.snapshots import VERSIONS, Snapshots

SPECS = list(defs.resolve_all_asset_specs())
CHECKS = [c for d in defs.asset_checks or () for c in d.check_specs if c.blocking]
NAMES = {s.key.to_user_string() for s in SPECS}
PARTITIONED = {s.key.to_user_string() for s in SPECS if s.partitions_def is not None}
AUTOMATED = {s.key.to_user_string() for s in SPECS if s.automation_condition is not None}
SHARED = AUTOMATED - PARTITIONED  # what no version owns


def below(name: str) -> set[str]:
    """Every asset of a version that something of this one reaches."""
    direct = {s.key.to_user_string() for s in SPECS for d in s.deps if d.asset_key.to_user_string() == name}
    return (direct & PARTITIONED).union(*(below(child) for child in direct & PARTITIONED))


class Daemon:
    """Evaluates the conditions and runs what they request, one run for each partition, as Dagster groups them."""

    def __init__(self, instance: dg.DagsterInstance, layout: Layout, cursor: Any = None) -> None:
        self.instance, self.layout, self.cursor = instance, layout, cursor
        self.versions = list(instance.get_dynamic_partitions(VERSIONS))
        # A tick asks for them thousands of times, and each time they are read from the database.
        setattr(instance, "get_dynamic_partitions", lambda partitions_def_name: list(self.versions))  # noqa: B010 - a stand-in
        self.prompts = "one"
        self.failing: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.runs = 0
        self.looks_during: str | None = None  # the asset at which it looks in the middle of a run
        self.wanted_meanwhile: set[str] = set()
        self.assets = [self._stand_in(spec) for spec in SPECS]
        self.checks = [self._check(spec.key, spec.partitions_def) for spec in CHECKS]
        self.defs = dg.Definitions(assets=self.assets, asset_checks=self.checks)

    def register(self, *texts: str) -> list[str]:
        """Versions of constitutions: 'a' of the constitution a, 'a: edited' of the same with that text."""
        keys = [Snapshots(self.layout).register(Constitution(
            name=text.partition(":")[0], version="v1",
            principles=(Principle(id="one", critique=text, revision=text, preference=text),))) for text in texts]
        self.instance.add_dynamic_partitions(VERSIONS, keys)
        self.versions += keys
        return keys

    def _stand_in(self, spec: dg.AssetSpec) -> dg.AssetsDefinition:
        name = spec.key.to_user_string()

        @dg.asset(name=name, deps=spec.deps, partitions_def=spec.partitions_def, code_version=spec.code_version,
                  group_name=spec.group_name, automation_condition=spec.automation_condition)
        def stand_in(context) -> dg.MaterializeResult:  # type: ignore[no-untyped-def,type-arg]
            self.counts[name] += 1
            if name == self.looks_during:
                self.wanted_meanwhile = set().union(*self._tick().values())
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

    def run_job(self, name: str, partition: str) -> None:
        """As the schedule and the Jobs page do: a whole job, which names no assets."""
        job = dg.define_asset_job(name, next(j.selection for j in jobs if j.name == name))
        made = dg.Definitions(assets=self.assets, asset_checks=self.checks, jobs=[job]).resolve_job_def(name)
        assert made.execute_in_process(partition_key=partition, instance=self.instance).success

    def _tick(self) -> dict[str | None, set[str]]:
        """What is asked for now, by partition."""
        result = dg.evaluate_automation_conditions(defs=self.defs, instance=self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        wanted: dict[str | None, set[str]] = {}
        for name in sorted(NAMES):
            for partition in result.get_requested_partitions(dg.AssetKey(name)):
                wanted.setdefault(partition, set()).add(name)
        return wanted

    def settle(self, ticks: int = 8) -> tuple[dict[str, int], int]:
        """Tick until nothing more is asked for; return the counts by asset and the number of runs since the last."""
        for _ in range(ticks):
            wanted = self._tick()
            for partition, names in wanted.items():
                self.run(names, partition)
            if not wanted:
                break
        counts, runs = dict(self.counts), self.runs
        self.counts.clear()
        self.runs = 0
        return counts, runs


@contextmanager
def daemon_of(home: Path, cursor: Any = None) -> Iterator[Daemon]:
    with dg.DagsterInstance.local_temp(str(home)) as instance, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAI_DATA_ROOT", str(home / "data"))
        yield Daemon(instance, Layout(home / "data"), cursor)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Daemon]:
    """An empty store with no version yet, which automation has not looked at."""
    with daemon_of(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Two versions, everything materialized, automation at rest: the instance's folder and the cursor."""
    home = tmp_path_factory.mktemp("rest")
    with daemon_of(home) as made:
        keys = made.register("a", "b")
        made.settle()
        for version in keys:
            made.run(PARTITIONED, version)
        made.settle()
        assert made.settle() == ({}, 0)
        return home, made.cursor


@pytest.fixture
def daemon(rest: tuple[Path, Any], tmp_path: Path) -> Iterator[Daemon]:
    """What goes on from there."""
    home, cursor = rest
    shutil.copytree(home, tmp_path / "home")
    with daemon_of(tmp_path / "home", cursor) as made:
        yield made


def test_the_same_data_again_runs_nothing(daemon: Daemon) -> None:
    daemon.run({"prompts"}, None)
    assert daemon.settle() == ({"prompts": 1}, 1)
    daemon.run({"critiques", "revisions"}, daemon.versions[0])
    assert daemon.settle() == ({"critiques": 1, "revisions": 1}, 1)


def test_a_new_version_is_one_run_with_each_asset_once(daemon: Daemon) -> None:
    daemon.register("c")
    assert daemon.settle() == (dict.fromkeys(PARTITIONED, 1), 1)


def test_two_versions_at_once_are_two_runs(daemon: Daemon) -> None:
    daemon.register("c", "d")
    assert daemon.settle() == (dict.fromkeys(PARTITIONED, 2), 2)


@pytest.mark.long
def test_changed_prompts_run_the_newest_version_of_each_constitution_once(daemon: Daemon) -> None:
    daemon.register("a: edited", "c")
    daemon.settle()
    Archive(daemon.layout).archive(daemon.versions[-1])
    daemon.prompts = "two"
    daemon.run({"prompts"}, None)
    counts, _ = daemon.settle()  # of the edited a and of b, not of the first a and the archived c
    assert counts == {**dict.fromkeys(SHARED, 1), **dict.fromkeys(below("initial_responses"), 2)}


@pytest.mark.long
def test_a_fresh_week_runs_no_other_version(daemon: Daemon) -> None:
    keys = daemon.register("a: edited")
    daemon.settle()
    daemon.prompts = "sampled anew"  # by another seed, as fresh_weekly does
    for key in (daemon.versions[1], *keys):  # the schedule's runs, of the newest of each constitution
        daemon.run(SHARED | PARTITIONED, key)
    daemon.counts.clear()
    daemon.runs = 0
    assert daemon.settle() == ({}, 0)


@pytest.mark.parametrize("during", ["sl_policy", "rl_policy"])
def test_a_look_in_the_middle_of_a_whole_job_asks_for_nothing_of_it_again(daemon: Daemon, during: str) -> None:
    daemon.prompts = "sampled anew"
    daemon.looks_during = during
    daemon.run_job("all", daemon.versions[0])
    daemon.looks_during = None
    assert daemon.wanted_meanwhile == set()
    daemon.counts.clear()
    assert daemon.settle() == ({}, 0)


def test_a_job_of_one_group_starts_what_is_below_it(daemon: Daemon) -> None:
    daemon.prompts = "sampled anew"
    daemon.run_job("supervised", daemon.versions[0])
    daemon.counts.clear()
    counts, _ = daemon.settle()
    assert {"response_pairs", "rl_policy"} <= set(counts)
    assert "sl_policy" not in counts


@pytest.mark.long
def test_a_version_whose_run_still_waits_is_not_asked_for(daemon: Daemon) -> None:
    first, second = daemon.versions
    waiting = daemon.instance.create_run_for_job(daemon.defs.resolve_implicit_global_asset_job_def(),
                                                 tags={"dagster/partition": second})
    daemon.prompts = "sampled anew"
    daemon.run(SHARED | PARTITIONED, first)
    daemon.counts.clear()
    daemon.runs = 0
    assert daemon.settle() == ({}, 0)
    daemon.instance.report_run_canceled(waiting)
    assert daemon.settle() == (dict.fromkeys(below("initial_responses"), 1), 1)


def test_a_failing_asset_does_not_loop(daemon: Daemon) -> None:
    daemon.failing = {"revisions"}
    daemon.register("c")
    counts, runs = daemon.settle()
    assert counts["revisions"] == 1
    assert "sl_policy" not in counts
    assert runs == 1


def test_a_failed_blocking_check_stops_what_is_below_it_once(daemon: Daemon) -> None:
    daemon.failing = {"revisions check"}
    daemon.register("c")
    counts, runs = daemon.settle()
    assert (counts["revisions"], runs) == (1, 1)
    assert "sl_dataset" not in counts


def test_an_empty_store_gets_what_no_version_owns_and_each_new_version_one_run(fresh: Daemon) -> None:
    assert fresh.settle() == (dict.fromkeys(SHARED, 1), 1)
    fresh.register("a")
    assert fresh.settle() == (dict.fromkeys(PARTITIONED, 1), 1)
    assert fresh.settle() == ({}, 0)


def test_versions_from_before_automation_cost_nothing(fresh: Daemon) -> None:
    # Their first responses are a copy of a table; whatever spends something waits until somebody asks for it.
    fresh.register("a", "b")
    assert fresh.settle()[0] == {**dict.fromkeys(SHARED, 1), "starting_responses": 2}


@pytest.mark.parametrize("failing", ["prompts", "initial_responses"])
def test_what_fails_at_the_start_is_not_tried_again_unasked(fresh: Daemon, failing: str) -> None:
    fresh.failing = {failing}
    assert fresh.settle()[0][failing] == 1
    fresh.failing.clear()
    assert fresh.settle() == ({}, 0)
    fresh.run({failing}, None)
    assert fresh.settle()[0] == {**dict.fromkeys(SHARED - {*needed(failing)}, 1), failing: 1}
