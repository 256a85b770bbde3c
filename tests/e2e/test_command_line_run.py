"""A run of the command line in a live ``cai ui``: under its job in the timeline, executed again, ended from its page;
and what the launchpad refuses before a run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import run, until
from server import REPOSITORY, Served, graphql, wait_for

pytestmark = pytest.mark.browser  # shares the server of the tests that open pages
FEW = ("--select", "prompts", "--select", "initial_responses")
JOBS = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { ... on RepositoryLocation {
  repositories { pipelines { name runs(limit: 9) { runId } } } } } } } } }"""
FEED = """{ runsFeedOrError(limit: 9, view: RUNS) { ... on RunsFeedConnection { results { ... on Run {
  runId runStatus jobName repositoryOrigin { repositoryName repositoryLocationName } tags { key value } runConfigYaml
  } } } } }"""
AGAIN = """mutation($id: String!) { launchRunReexecution(reexecutionParams: {parentRunId: $id, strategy: ALL_STEPS}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) { __typename
  ... on RunConfigValidationInvalid { errors { message } } } }"""
# As `cai`, with an engine that takes long.
SLOW = """
import time
from cai_assets.engines import scripted
from cai_assets.cli import app
scripted.default_reply = lambda *_: time.sleep(600)
app()
"""


def environment(served: Served) -> dict[str, str]:
    return {**os.environ, "DAGSTER_HOME": str(served.root / "home"), "CAI_DATA_ROOT": str(served.root / "data"),
            "CAI_SETTINGS": str(served.root / "settings.yaml"), "PYTHONPATH": str(REPOSITORY)}


def status(served: Served, run_id: str) -> str:
    return str(graphql(served.url, STATUS, id=run_id)["runOrError"]["status"])


def under_the_job(served: Served) -> set[str]:
    (location,) = graphql(served.url, JOBS)["workspaceOrError"]["locationEntries"]
    jobs = location["locationOrLoadError"]["repositories"][0]["pipelines"]
    return {r["runId"] for job in jobs if job["name"] == "all" for r in job["runs"]}


def test_it_stands_under_its_job_and_is_executed_again_with_what_was_typed(served: Served) -> None:
    command = [sys.executable, "-m", "cai_assets.cli", "materialize", "customer-service", *FEW, "-s", "seed=3"]
    done = run([*command, "--json"], served.root / "data", env=environment(served), cwd=served.root)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert [asset["asset"] for asset in made["assets"]] == ["prompts", "initial_responses"]
    (run_,) = [r for r in graphql(served.url, FEED)["runsFeedOrError"]["results"] if r["runId"] == made["run_id"]]
    assert run_["repositoryOrigin"] == {"repositoryName": "__repository__", "repositoryLocationName": "live_location"}
    tags = {t["key"]: t["value"] for t in run_["tags"]}
    assert (tags["cai/constitution"], tags["cai/scale"]) == ("customer-service", "smoke")
    assert "seed: 3" in run_["runConfigYaml"]
    assert made["run_id"] in under_the_job(served)

    again = graphql(served.url, AGAIN, id=made["run_id"])["launchRunReexecution"]
    assert again["__typename"] == "LaunchRunSuccess", again
    wait_for(lambda: status(served, again["run"]["runId"]) in {"SUCCESS", "FAILURE"}, served.root)
    assert status(served, again["run"]["runId"]) == "SUCCESS"
    records = sorted((served.root / "data" / "records" / "initial_responses" / "all").glob("*.json"))
    first, second = (json.loads(path.read_text()) for path in records[-2:])
    assert second["run_id"] == again["run"]["runId"]
    assert (second["digest"], second["generated"], second["reused"]) == (first["digest"], 0, first["generated"])


def test_terminate_on_its_page_ends_it_with_one_line(served: Served, tmp_path: Path) -> None:
    before = {r["runId"] for r in graphql(served.url, FEED)["runsFeedOrError"]["results"]}
    with (tmp_path / "out").open("wb") as out:
        command = [sys.executable, "-c", SLOW, "materialize", "customer-service", *FEW, "-s", "seed=4"]
        process = subprocess.Popen(command, env=environment(served), cwd=served.root, stdout=out, stderr=out)

    def started() -> str | None:
        assert process.poll() is None, (tmp_path / "out").read_text()
        feed = graphql(served.url, FEED)["runsFeedOrError"]["results"]
        return next((r["runId"] for r in feed if r["runId"] not in before and r["runStatus"] == "STARTED"), None)

    run_id = until(started)
    assert run_id is not None
    assert graphql(served.url, TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    until(lambda: process.poll() is not None)
    assert process.returncode == 130
    assert (tmp_path / "out").read_text().splitlines()[-1].startswith("Interrupted.")
    until(lambda: status(served, run_id) == "CANCELED")


@pytest.mark.parametrize(("overrides", "words"), [
    ({"rl": {"betta": 0.1}}, 'unexpected config entry "betta"'),
    ({"rl": {"kl_in": "los"}}, "kl_in"),
])
def test_a_typo_in_the_launchpad_starts_no_run(served: Served, overrides: dict[str, Any], words: str) -> None:
    before = graphql(served.url, FEED)["runsFeedOrError"]["results"]
    params = {
        "selector": {"repositoryLocationName": "live_location", "repositoryName": "__repository__",
                     "pipelineName": "all"},
        "mode": "default", "runConfigData": {"resources": {"project": {"config": {"overrides": overrides}}}},
    }
    answer = graphql(served.url, LAUNCH, params=params)["launchPipelineExecution"]
    assert answer["__typename"] == "RunConfigValidationInvalid", answer
    assert words in answer["errors"][0]["message"]
    assert graphql(served.url, FEED)["runsFeedOrError"]["results"] == before
