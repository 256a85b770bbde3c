"""Terminating a run in the UI while it trains leaves no process behind, and frees the GPU slot for the next run."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from patience import until
from server import graphql, serving, wait_for
from tiny_models import tiny_model

pytestmark = pytest.mark.model

LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
PARTITIONS = '{ assetNodeOrError(assetKey: {path: ["constitution"]}) { ... on AssetNode { partitionKeys } } }'


def trainers(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "cai_assets.train" in words and any(str(root) in w for w in words):
            found.append(process)
    return found


def launch(url: str, version: str) -> str:
    params = {
        "selector": {"repositoryLocationName": "cai_assets", "repositoryName": "__repository__",
                     "pipelineName": "all"},
        "mode": "default", "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": version}]},
    }
    result = graphql(url, LAUNCH, params=params)["launchPipelineExecution"]
    assert result["__typename"] == "LaunchRunSuccess", result
    run: str = result["run"]["runId"]
    return run


@pytest.mark.fault("a run terminated in the UI while it trains")
def test_terminate_leaves_no_trainer_and_the_next_run_starts(tmp_path: Path) -> None:
    model = {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}
    settings = {"CAI_MODELS__GENERATOR": json.dumps(model), "CAI_SL__EPOCHS": "100000", "CAI_SL__MAX_LENGTH": "64",
                "CAI_PROMPTS__RED_TEAM": "4", "CAI_PROMPTS__HELPFUL": "2"}
    with serving(tmp_path, settings) as url:
        versions = wait_for(lambda: graphql(url, PARTITIONS)["assetNodeOrError"]["partitionKeys"], tmp_path)
        for _ in range(2):
            run = launch(url, versions[0])
            wait_for(lambda: trainers(tmp_path), tmp_path)
            graphql(url, TERMINATE, id=run)
            until(lambda run=run: graphql(url, STATUS, id=run)["runOrError"]["status"] == "CANCELED")
            until(lambda: not trainers(tmp_path))
    assert not list((tmp_path / "data" / "checkpoints").rglob("record.json"))
