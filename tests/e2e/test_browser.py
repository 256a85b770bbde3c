"""A person's first minutes in the UI, in a real browser: see the graph, materialize an asset, see it succeed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from server import Served, graphql, wait_for

pytestmark = pytest.mark.browser
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    opened = chromium.new_page(viewport={"width": 1500, "height": 1000})
    yield opened
    opened.close()


def runs(url: str) -> set[str]:
    return {r["runId"] for r in graphql(url, RUNS)["runsOrError"]["results"]}


def test_see_the_graph_materialize_an_asset_and_see_it_succeed(served: Served, page: Any) -> None:
    url = served.url
    page.goto(url + "/asset-groups")
    for group in ("inputs", "supervised", "preference", "reinforcement", "evaluation"):
        page.get_by_text(group, exact=True).first.wait_for()
    page.goto(url + "/assets/prompts")
    before = runs(url)
    page.get_by_role("button", name="Materialize").first.click()
    (run,) = wait_for(lambda: runs(url) - before, served.root)
    status = f'{{ runOrError(runId: "{run}") {{ ... on Run {{ status }} }} }}'
    wait_for(lambda: graphql(url, status)["runOrError"]["status"] in {"SUCCESS", "FAILURE"}, served.root)
    page.goto(f"{url}/runs/{run}")
    page.get_by_text("Success", exact=True).first.wait_for()
    page.goto(url + "/assets/prompts?view=overview")
    page.get_by_text("Row count").wait_for()
    page.get_by_text("Latest check results").wait_for()


def test_the_sensor_registers_every_shipped_constitution(served: Served) -> None:
    url = served.url
    query = '{ assetNodeOrError(assetKey: {path: ["constitution"]}) { ... on AssetNode { partitionKeys } } }'
    wait_for(lambda: len(graphql(url, query)["assetNodeOrError"]["partitionKeys"]) >= 4, served.root)
    names = {k.rsplit("-", 2)[0] for k in graphql(url, query)["assetNodeOrError"]["partitionKeys"]}
    assert {"harmlessness", "customer-service", "red-team", "plain-speech"} <= names


def test_a_partition_typed_by_hand_fails_and_says_what_to_do(served: Served, page: Any) -> None:
    url = served.url
    where = graphql(url, "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }")
    (repository,) = where["repositoriesOrError"]["nodes"]
    place = {"repositoryName": repository["name"], "repositoryLocationName": repository["location"]["name"]}
    added = graphql(url, """mutation ($place: RepositorySelector!) { addDynamicPartition(
        repositorySelector: $place, partitionsDefName: "constitution_version", partitionKey: "typed-by-hand") {
        __typename } }""", place=place)
    assert added["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess"
    launched = graphql(url, """mutation ($run: ExecutionParams!) { launchRun(executionParams: $run) {
        __typename ... on LaunchRunSuccess { run { runId } } } }""", run={
        "selector": {**place, "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": ["constitution"]}]},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "typed-by-hand"}]}})
    run = launched["launchRun"]["run"]["runId"]
    status = f'{{ runOrError(runId: "{run}") {{ ... on Run {{ status }} }} }}'
    wait_for(lambda: graphql(url, status)["runOrError"]["status"] == "FAILURE", served.root)
    page.goto(f"{url}/runs/{run}")
    page.get_by_text("no registered constitution 'typed-by-hand'").first.wait_for()
    page.get_by_text("cai register").first.wait_for()
