"""Automation in a real ``dagster dev``, measured by counting runs and records.

A first version, an edited principle, a comment, and the weekly schedule as the UI's 'Test schedule' launches it.
Tiny models, real trainers, scripted engine.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from server import graphql, serving, wait_for
from tiny_models import tiny_model

from cai_assets.lineage.layout import Layout
from cai_assets.lineage.records import WITHOUT_VERSION, Record, Records
from cai_assets.lineage.snapshots import VERSIONS
from cai_assets.reports.summary import ORDER

pytestmark = [pytest.mark.model, pytest.mark.long]

TEXT = """version: "v1"
principles:
  - {{id: harm, critique: "{critique}", revision: Remove harm., preference: Which is less harmful?}}
  - {{id: lies, critique: Identify lies., revision: Remove lies., preference: Which is more honest?}}
"""
AUTOMATED = [a for a in ORDER if a != "comparison"]  # which compares versions when asked to
REPOSITORY = {"repositoryLocationName": "cai_assets", "repositoryName": "__repository__"}
TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
  ... on Sensor { sensorState { ticks(limit: 20) { timestamp } } } } }"""
DRY_RUN = """mutation($selector: ScheduleSelector!, $time: Float) {
  scheduleDryRun(selectorData: $selector, timestamp: $time) { __typename ... on DryRunInstigationTick {
    evaluationResult { error { message } runRequests { runKey runConfigYaml tags { key value } } } } } }"""
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
MONDAY = 1_795_402_800.0  # 2026-11-23 03:00 UTC


class Live:
    """A server with automation on, its constitution file, and what it did so far."""

    def __init__(self, root: Path, url: str, instance: dg.DagsterInstance) -> None:
        self.root, self.url, self.instance = root, url, instance
        self.records = Records(Layout(root / "data"))

    def write(self, critique: str, comment: str = "") -> None:
        (self.root / "constitutions" / "mild.yaml").write_text(comment + TEXT.format(critique=critique))

    def versions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions(VERSIONS))

    def wait_until_made(self, version: str) -> None:
        wait_for(lambda: self.times_made(version).keys() == set(AUTOMATED), 420)
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        wait_for(lambda: all(r.is_finished for r in self.instance.get_runs()), 240)
        assert {r.status for r in self.instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}

    def made(self, asset: str, version: str) -> list[Record]:
        partition = None if asset in WITHOUT_VERSION else version
        return [r for r in self.records.every(asset) if r.partition == partition]

    def times_made(self, version: str) -> Counter[str]:
        return +Counter({asset: len(self.made(asset, version)) for asset in AUTOMATED})

    def runs(self, version: str | None = None) -> int:
        tags = {"dagster/partition": version} if version else {}
        return len(self.instance.get_runs(dg.RunsFilter(tags=tags)))

    def wait_for_ticks(self, count: int) -> None:
        """Until both sensors looked so often again."""
        start = time.time()

        def looked(name: str) -> bool:
            state = graphql(self.url, TICKS, selector={**REPOSITORY, "sensorName": name})["sensorOrError"]
            return sum(t["timestamp"] > start for t in state["sensorState"]["ticks"]) >= count

        wait_for(lambda: looked("register_constitutions") and looked("automation"), 180)

    def launch(self, selection: dict[str, Any], config: dict[str, Any], tags: list[dict[str, str]]) -> None:
        params = {"selector": {**REPOSITORY, "pipelineName": "all", **selection}, "mode": "default",
                  "runConfigData": config, "executionMetadata": {"tags": tags}}
        launched = graphql(self.url, LAUNCH, params=params)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched

    def launch_weekly(self) -> list[str]:
        """As 'Test schedule' does: evaluate the schedule for a time, launch what it asks for; return the versions."""
        tick = graphql(self.url, DRY_RUN, selector={**REPOSITORY, "scheduleName": "weekly"}, time=MONDAY)
        requests = tick["scheduleDryRun"]["evaluationResult"]["runRequests"]
        for request in requests:
            self.launch({}, yaml.safe_load(request["runConfigYaml"]) or {}, request["tags"])
        return [t["value"] for r in requests for t in r["tags"] if t["key"] == "dagster/partition"]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    (tmp_path / "constitutions").mkdir()
    model = {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}
    quick = {"max_length": 64}
    settings: dict[str, Any] = {
        "CONSTITUTIONS": str(tmp_path / "constitutions"), "MODELS__GENERATOR": json.dumps(model),
        "GENERATION__MAX_TOKENS": "16", "CRITIQUE__ROUNDS": "2", "PROMPTS__RED_TEAM": "8", "PROMPTS__HELPFUL": "2",
        "PROMPTS__EVAL_RED_TEAM": "2", "PROMPTS__EVAL_HELPFUL": "2", "SL": json.dumps(quick),
        "REWARD": json.dumps(quick), "RL": json.dumps({**quick, "steps": 1, "max_tokens": 8}),
        "AUTOMATION": "on", "SENSOR_SECONDS": "2",
    }
    with (serving(tmp_path, {f"CAI_{name}": value for name, value in settings.items()}) as url,
          dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance):
        yield Live(tmp_path, url, instance)


def test_a_new_version_an_edit_a_comment_and_the_weekly_schedule(live: Live) -> None:
    # What is missing when automation first looks is not new to it, so what no version owns is made by hand once.
    by_hand = sorted(WITHOUT_VERSION & set(AUTOMATED))
    live.launch({"assetSelection": [{"path": [asset]} for asset in by_hand]}, {}, [])
    live.wait_until_idle()
    live.write("Identify harm.")
    (first,) = wait_for(live.versions, 120)
    live.wait_until_made(first)
    assert live.times_made(first) == dict.fromkeys(AUTOMATED, 1)
    assert (live.runs(first), live.runs()) == (1, 2)

    live.write("Identify harm, also to animals.")
    wait_for(lambda: len(live.versions()) == 2, 120)
    second = live.versions()[1]
    live.wait_until_made(second)
    assert live.times_made(second) == dict.fromkeys(AUTOMATED, 1)
    assert live.runs(second) == 1
    assert live.made("critiques", second)[0].reused > 0

    before = live.runs()
    live.write("Identify harm, also to animals.", comment="# a remark\n")
    live.wait_for_ticks(3)
    assert (live.versions(), live.runs()) == ([first, second], before)

    assert live.launch_weekly() == [second]
    live.wait_until_idle()
    assert live.times_made(second) == dict.fromkeys(AUTOMATED, 2)
    assert live.times_made(first) == {a: 2 if a in WITHOUT_VERSION else 1 for a in AUTOMATED}
    again = [live.made(asset, second)[1] for asset in AUTOMATED]
    assert sum(r.generated + r.failed for r in again) == 0
    assert {r.asset for r in again if r.details.get("reused_checkpoint")} == {"sft_baseline", "sl_policy",
                                                                              "reward_model", "rl_policy"}
    live.wait_for_ticks(3)
    assert live.runs() == before + 1
