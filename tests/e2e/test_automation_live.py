"""Automation in a real ``cai ui``, measured by counting runs and materializations of every asset there is.

From an empty store: what no version owns, a first version, a comment, an edited principle, a constitution whose labels
fail, two files edited at once, and the weekly schedule as the UI's 'Test schedule' launches it. Tiny model, scripted
engine; a training is a copy of its base (``live_location``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from server import graphql, serving, wait_for
from tiny_models import tiny_model

from cai_assets.definitions import defs
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.versions.archive import Archive
from cai_assets.versions.snapshots import VERSIONS

pytestmark = [pytest.mark.model, pytest.mark.long]

TEXT = """version: "v1"
principles:
  - {{id: harm, critique: "{critique}", revision: Remove harm.{preference}}}
  - {{id: lies, critique: Identify lies., revision: Remove lies.}}
"""
SPECS = [s for s in defs.resolve_all_asset_specs() if s.automation_condition is not None]
OWNED = {s.key.to_user_string() for s in SPECS if s.partitions_def is not None}
SHARED = {s.key.to_user_string() for s in SPECS} - OWNED
LOCATION = "live_location"
REPOSITORY = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}
TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
  ... on Sensor { sensorState { ticks(limit: 20) { timestamp status } } } } }"""
DRY_RUN = """mutation($selector: ScheduleSelector!, $time: Float) {
  scheduleDryRun(selectorData: $selector, timestamp: $time) { __typename ... on DryRunInstigationTick {
    evaluationResult { error { message } runRequests { runKey runConfigYaml tags { key value } } } } } }"""
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
MONDAY = 1_795_402_800.0  # 2026-11-23 03:00 UTC, in week 48


class Live:
    """A server with automation on, its constitution files, and what it did so far."""

    def __init__(self, root: Path, url: str, instance: dg.DagsterInstance) -> None:
        self.root, self.url, self.instance = root, url, instance
        self.layout = Layout(root / "data")
        self.seen: list[str] = []

    def write(self, name: str, critique: str, *, labeled: bool = True, comment: str = "") -> None:
        text = comment + TEXT.format(critique=critique, preference=", preference: Which is milder?" if labeled else "")
        (self.root / "constitutions" / f"{name}.yaml").write_text(text)

    def settings(self, changes: dict[str, bool]) -> None:
        path = self.root / "settings.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    def versions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions(VERSIONS))

    def new_versions(self, count: int = 1) -> list[str]:
        """Wait for so many more versions than this was told of before; return them."""
        before = self.seen
        wait_for(lambda: len(self.versions()) == len(before) + count, self.root)
        self.seen = self.versions()
        return self.seen[len(before):]

    def times_made(self, version: str | None) -> Counter[str]:
        """How often each asset of a version was materialized; for None, those that no version owns."""
        counts: Counter[str] = Counter()
        for asset in OWNED if version else SHARED:
            made = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[version] if version else None)
            counts[asset] = len(self.instance.fetch_materializations(made, limit=100).records)
        return +counts

    def runs(self, version: str | None = None) -> list[dg.DagsterRunStatus]:
        """How the runs stand: of one version, or all, oldest first."""
        tags = {"dagster/partition": version} if version else {}
        return [run.status for run in reversed(self.instance.get_runs(dg.RunsFilter(tags=tags)))]

    def wait_until_idle(self, runs: int) -> None:
        """Until there are so many runs, all finished, and both sensors looked three times without asking for more."""
        wait_for(lambda: len(self.runs()) >= runs and not self._unfinished(), self.root)
        self._wait_for_ticks(3)
        assert (len(self.runs()), self._unfinished()) == (runs, 0)

    def _unfinished(self) -> int:
        return sum(not run.is_finished for run in self.instance.get_runs())

    def _wait_for_ticks(self, count: int) -> None:
        start = time.time()

        def looked(name: str) -> bool:
            state = graphql(self.url, TICKS, selector={**REPOSITORY, "sensorName": name})["sensorOrError"]
            ticks = [t for t in state["sensorState"]["ticks"] if t["timestamp"] > start]
            assert "FAILURE" not in {t["status"] for t in ticks}
            return sum(t["status"] != "STARTED" for t in ticks) >= count

        wait_for(lambda: looked("register_constitutions") and looked("automation"), self.root)

    def weekly(self) -> list[str]:
        """As 'Test schedule' does: evaluate the schedule for a time, launch what it asks for; return the versions."""
        tick = graphql(self.url, DRY_RUN, selector={**REPOSITORY, "scheduleName": "weekly"}, time=MONDAY)
        requests = tick["scheduleDryRun"]["evaluationResult"]["runRequests"]
        for request in requests:
            params = {"selector": {**REPOSITORY, "pipelineName": "all"}, "mode": "default",
                      "runConfigData": yaml.safe_load(request["runConfigYaml"]) or {},
                      "executionMetadata": {"tags": request["tags"]}}
            launched = graphql(self.url, LAUNCH, params=params)["launchPipelineExecution"]
            assert launched["__typename"] == "LaunchRunSuccess", launched
        return [t["value"] for r in requests for t in r["tags"] if t["key"] == "dagster/partition"]

    def newest(self, version: str) -> list[Record]:
        """The newest record of every asset of a version that has one, and of those that no version owns."""
        records = Records(self.layout)
        owned = [records.latest(asset, version) for asset in OWNED if version in records.partitions(asset)]
        return owned + [records.latest(asset, None) for asset in SHARED]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    (tmp_path / "constitutions").mkdir()
    model = {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}
    settings = {"constitutions": str(tmp_path / "constitutions"), "models": {"generator": model},
                "prompts": {"red_team": 8, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    environment = {"CAI_SETTINGS": str(tmp_path / "settings.yaml"), "CAI_AUTOMATION": "on", "CAI_SENSOR_SECONDS": "3"}
    with (serving(tmp_path, environment, module=LOCATION) as url,
          dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance):
        yield Live(tmp_path, url, instance)


def test_each_change_is_one_run_with_each_asset_once_and_what_changes_nothing_is_none(live: Live) -> None:
    once, done = dict.fromkeys(OWNED, 1), dg.DagsterRunStatus.SUCCESS
    live.wait_until_idle(1)
    assert live.times_made(None) == dict.fromkeys(SHARED, 1)

    live.write("mild", "Identify harm.")
    (first,) = live.new_versions()
    live.wait_until_idle(2)
    assert live.times_made(first) == once

    live.write("mild", "Identify harm.", comment="# a remark\n")
    live.wait_until_idle(2)
    assert live.versions() == [first]

    live.write("mild", "Identify harm, also to animals.")
    (second,) = live.new_versions()
    live.wait_until_idle(3)
    assert live.times_made(second) == once
    assert next(r for r in live.newest(second) if r.asset == "critiques").reused > 0

    live.write("strict", "Identify harm.", labeled=False)  # with no question, nothing can be labeled
    (broken,) = live.new_versions()
    live.wait_until_idle(4)
    assert live.runs() == [done] * 3 + [dg.DagsterRunStatus.FAILURE]
    assert "preference_pairs" not in live.times_made(broken)

    live.write("mild", "Identify harm, also to plants.")
    live.write("strict", "Identify harm.")
    both = live.new_versions(2)
    live.wait_until_idle(6)
    third, repaired = sorted(both)
    assert [live.times_made(v) for v in (third, repaired)] == [once, once]
    assert [live.runs(v) for v in (third, repaired)] == [[done], [done]]
    assert live.times_made(None) == dict.fromkeys(SHARED, 1)

    for version in (broken, repaired):
        Archive(live.layout).archive(version)
    assert live.weekly() == [third]
    live.wait_until_idle(7)
    assert live.times_made(third) == dict.fromkeys(OWNED, 2)
    again = live.newest(third)
    assert sum(r.generated + r.failed for r in again) == 0
    assert sum(r.reused for r in again) > 0
    assert all(r.details.get("reused_checkpoint", True) for r in again)

    live.settings({"fresh_weekly": True})
    before = {v: live.times_made(v) for v in (first, second, repaired)}
    assert live.weekly() == [third]
    live.wait_until_idle(8)  # the new responses are every version's to read, and no other runs for them
    assert {v: live.times_made(v) for v in before} == before
    assert live.times_made(third) == dict.fromkeys(OWNED, 3)
    (responses,) = (r for r in live.newest(third) if r.asset == "initial_responses")
    assert (responses.reused, responses.details["seed"]) == (0, 202648)
