"""One browser and one running server for all tests that open pages: starting either costs more than a test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from patience import QUIET
from server import REPOSITORY, Served, serving
from tiny_models import tiny_model

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         # Any page under any name may ask this machine, so that what refuses it is the server.
         "--host-resolver-rules=MAP *.example 127.0.0.1", "--disable-features=LocalNetworkAccessChecks"]


class Browser:
    """Opens pages that wait as long for what they should show as a test waits for anything."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    def new_page(self, **options: Any) -> Any:
        page = self._browser.new_page(**options)
        page.set_default_timeout(1000 * QUIET)
        return page


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser; without one on the machine, the test is skipped."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield Browser(browser)
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The project on the scripted engine and a tiny model, with a training that is a copy of its base."""
    root = tmp_path_factory.mktemp("served")
    constitutions = shutil.copytree(REPOSITORY / "constitutions", root / "constitutions")
    settings = {"constitutions": str(constitutions),
                "models": {"generator": {"source": str(tiny_model(root / "tiny")), "backend": "scripted"}},
                "prompts": {"red_team": 8, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2}}
    (root / "settings.yaml").write_text(yaml.safe_dump(settings))
    environment = {"CAI_SETTINGS": str(root / "settings.yaml"), "CAI_SENSOR_SECONDS": "3"}
    with serving(root, environment, module="live_location") as url:
        yield Served(url, root, constitutions)
