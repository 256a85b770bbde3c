"""The studio's runs: launched through Dagster's own API, in this process, as its pages launch them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from dagster._core.workspace.context import WorkspaceProcessContext
from dagster_graphql.schema import create_schema

from cai_assets.defs.execute import run_config
from cai_assets.defs.jobs import everything
from cai_assets.defs.latest_runs import LatestRun, latest_runs
from cai_assets.studio.runs import NotLaunched
from cai_assets.versions.snapshots import VERSIONS

WHERE = """{ repositoriesOrError { __typename
  ... on PythonError { message }
  ... on RepositoryConnection { nodes { name location { name } pipelines { name } } } } }"""
LAUNCH = """mutation ($run: ExecutionParams!) { launchRun(executionParams: $run) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on UnauthorizedError { message }
  ... on PythonError { message }
  ... on InvalidSubsetError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""


class DagsterRuns:
    """Of the workspace that the web server shows."""

    def __init__(self, context: WorkspaceProcessContext) -> None:
        self._context = context

    @property
    def read_only(self) -> bool:
        return bool(self._context.read_only)

    def latest(self) -> Mapping[str, LatestRun]:
        return latest_runs(self._context.instance)

    def add(self, version: str) -> None:
        self._context.instance.add_dynamic_partitions(VERSIONS, [version])

    def launch(self, version: str, overrides: Mapping[str, Any], assets: Sequence[str] = ()) -> str:
        chosen = {"assetSelection": [{"path": [name]} for name in assets]} if assets else {}
        run = {"selector": {**self._place(), "pipelineName": everything.name, **chosen},
               "runConfigData": run_config(overrides),
               "executionMetadata": {"tags": [{"key": "dagster/partition", "value": version}]}}
        answer = self._ask(LAUNCH, run=run)["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise NotLaunched(f"Dagster does not start the run of {version}: {_why(answer)}")
        return str(answer["run"]["runId"])

    def _place(self) -> dict[str, str]:
        """The code location that has our job."""
        found = self._ask(WHERE)["repositoriesOrError"]
        for node in found.get("nodes", []):
            if everything.name in {job["name"] for job in node["pipelines"]}:
                return {"repositoryName": node["name"], "repositoryLocationName": node["location"]["name"]}
        raise NotLaunched(f"no code location has the job '{everything.name}' ({_why(found)}); see Deployment in "
                          "Dagster for the error that keeps it from loading")

    def _ask(self, query: str, **variables: Any) -> Any:
        asked = self._schema.execute_async(query, variables=variables,
                                           context_value=self._context.create_request_context())
        result = asyncio.run(asked)  # the studio answers a POST in a thread, which has no loop of its own
        if result.errors:
            raise NotLaunched(f"Dagster does not answer: {result.errors[0].message}")
        return result.data

    @cached_property
    def _schema(self) -> Any:
        return create_schema()


def _why(answer: Mapping[str, Any]) -> str:
    errors = "; ".join(e["message"] for e in answer.get("errors", []))
    return (answer.get("message") or errors or str(answer["__typename"])).strip().splitlines()[0]
