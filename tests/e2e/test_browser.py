"""A person's first minutes in the UI, in a real browser: see the graph, materialise an asset, see it succeed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``cai ui`` on a home and data root of its own."""
    home, data, port = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data"), free_port()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    environment = {**os.environ, "DAGSTER_HOME": str(home), "CAI_DATA_ROOT": str(data)}
    process = subprocess.Popen([sys.executable, "-m", "cai_assets.cli", "ui", "--port", str(port)], cwd=REPOSITORY,
                               env=environment, start_new_session=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: graphql(address, "{ version }"), 120)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_for(check: Any, seconds: float) -> Any:
    """The first true answer within the time; the last error otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := check():
                return found
        except OSError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def graphql(url: str, query: str) -> Any:
    request = urllib.request.Request(url + "/graphql", json.dumps({"query": query}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - our own server
        return json.load(response)["data"]


@pytest.fixture
def page(url: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1500, "height": 1000})
        browser.close()


def test_see_the_graph_materialise_an_asset_and_see_it_succeed(url: str, page: Any) -> None:
    page.goto(url + "/asset-groups")
    for group in ("inputs", "supervised", "preference", "reinforcement", "evaluation"):
        page.get_by_text(group, exact=True).first.wait_for(timeout=60_000)
    page.goto(url + "/assets/prompts")
    page.get_by_role("button", name="Materialize").first.click(timeout=60_000)
    run = wait_for(lambda: graphql(url, "{ runsOrError { ... on Runs { results { runId status } } } }")
                   ["runsOrError"]["results"], 60)[0]["runId"]
    status = f'{{ runOrError(runId: "{run}") {{ ... on Run {{ status }} }} }}'
    wait_for(lambda: graphql(url, status)["runOrError"]["status"] in {"SUCCESS", "FAILURE"}, 180)
    page.goto(f"{url}/runs/{run}")
    page.get_by_text("Success", exact=True).first.wait_for(timeout=60_000)
    page.goto(url + "/assets/prompts?view=overview")
    page.get_by_text("Row count").wait_for(timeout=60_000)
    page.get_by_text("Latest check results").wait_for(timeout=60_000)


def test_the_sensor_registers_every_shipped_constitution(url: str) -> None:
    query = '{ assetNodeOrError(assetKey: {path: ["constitution"]}) { ... on AssetNode { partitionKeys } } }'
    wait_for(lambda: len(graphql(url, query)["assetNodeOrError"]["partitionKeys"]) >= 4, 180)
    names = {k.rsplit("-", 2)[0] for k in graphql(url, query)["assetNodeOrError"]["partitionKeys"]}
    assert {"harmlessness", "customer-service", "red-team", "plain-speech"} <= names
