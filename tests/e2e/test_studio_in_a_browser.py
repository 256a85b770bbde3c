"""A person alone in a browser: read a principle, edit it, see the plan, save, run, read a chain, judge an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from server import Served, graphql, wait_for

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
TEXT = "Which answer would a patient colleague rather sign?"


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    opened = chromium.new_page(viewport={"width": 1360, "height": 900})
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)) if "/studio" in opened.url else None)
    opened.on("console", lambda m: faults.append(m.text) if "Content Security Policy" in m.text and "/studio" in
              opened.url else None)
    yield opened
    opened.close()
    assert faults == []


def fits(page: Any) -> bool:
    """Whether nothing sticks out to the right of a telephone."""
    page.set_viewport_size(PHONE)
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_from_a_principle_to_a_judgment(served: Served, page: Any) -> None:
    url = f"{served.url}/studio/"
    file = served.constitutions / "plain-speech.yaml"
    before = file.read_text()
    page.goto(url)
    scripts: list[Any] = []

    def slow(route: Any) -> None:  # a person types before the script is there
        scripts.append(route)

    page.route("**/studio.js*", slow)
    with page.expect_request("**/studio.js*"):
        page.get_by_role("link", name="Read and edit plain-speech").click()
    page.get_by_label("preference").first.fill(TEXT)
    scripts[0].continue_()
    page.unroute("**/studio.js*")
    page.locator("#summary", has_text="training run").wait_for()
    assert file.read_text() == before  # nothing is written unasked
    page.keyboard.press("Control+s")
    page.locator("#said", has_text="Saved as plain-speech-").wait_for()
    assert TEXT in file.read_text()
    version = page.locator("#said a").inner_text()
    page.get_by_role("button", name="Run it").click()
    page.get_by_role("link", name="Watch the run").wait_for()
    run = page.get_by_role("link", name="Watch the run").get_attribute("href").rpartition("/")[2]
    query = f'{{ runOrError(runId: "{run}") {{ ... on Run {{ status jobName tags {{ key value }} }} }} }}'
    wait_for(lambda: graphql(served.url, query)["runOrError"]["status"] in {"SUCCESS", "FAILURE"}, served.root)
    ran = graphql(served.url, query)["runOrError"]
    assert (ran["status"], ran["jobName"]) == ("SUCCESS", "all")
    assert {"key": "dagster/partition", "value": version} in ran["tags"]
    _read_a_chain(url, page, version)
    _judge(url, page, version, served)
    _ask(url, page, version)
    _reports(url, page, version)
    _trace(url, page, version)


def _read_a_chain(url: str, page: Any, version: str) -> None:
    page.goto(url)
    page.get_by_role("row", name=version).get_by_role("link", name="chains").click()
    page.locator("tbody a").first.click()
    page.get_by_text("First response", exact=True).wait_for()
    page.get_by_text(f"/{version}/").first.wait_for()  # a checkpoint that was trained on it
    assert fits(page)


def _judge(url: str, page: Any, version: str, served: Served) -> None:
    page.goto(f"{url}arena?versions={version}&blind=seed")
    page.get_by_role("button", name="Answer A is better").press("Enter")
    page.locator("#said", has_text="Kept:").wait_for()
    assert page.locator(".who").first.inner_text().startswith("A: ")
    kept = json.loads((served.root / "data" / "human-comparisons.json").read_text())
    assert kept
    assert all("blind" in one["why"] for one in kept)
    assert fits(page)


def _ask(url: str, page: Any, version: str) -> None:
    page.goto(f"{url}arena?versions={version}")
    page.get_by_text("Ask something of your own").click()
    page.get_by_role("textbox").fill("Whom does a ladder help?")
    page.get_by_role("button", name="Look").click()
    page.get_by_text("4 of 4 answers to sample").wait_for()
    assert page.locator(".who").count() == 0  # nothing is asked before it is wanted
    page.get_by_role("button", name="Sample 4 answers").click()
    page.get_by_text("All 4 answers are stored").wait_for()
    assert page.locator(".who").count() == 4


def _reports(url: str, page: Any, version: str) -> None:
    page.goto(f"{url}reports")
    page.get_by_role("link", name=f"Report of {version}").click()
    page.get_by_role("heading", name=f"Report of {version}").wait_for()
    page.get_by_role("link", name="Studio: all reports").click()
    page.get_by_role("heading", name="Reports").wait_for()


def _trace(url: str, page: Any, version: str) -> None:
    page.goto(f"{url}versions/{version}")
    page.get_by_role("button", name="Archive").click()
    page.get_by_role("button", name="Restore").click()
    page.get_by_role("button", name="Archive").wait_for()
    page.get_by_role("link", name="rl_policy", exact=True).click()
    page.get_by_role("heading", name="Principles that shaped it").wait_for()
    page.locator("tbody a[href*='/chains/']").first.click()
    page.get_by_text("First response", exact=True).wait_for()
    assert fits(page)


def test_an_edit_is_linted_while_it_is_typed_and_a_lost_one_is_asked_about(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/studio/constitutions/red-team")
    page.get_by_label("preference").first.fill("")
    page.locator("#problems li").first.wait_for()
    assert page.locator("#save").is_disabled()
    page.get_by_label("preference").first.fill("Which is kinder?")
    page.locator("#problems li").first.wait_for(state="detached")
    assert fits(page)


def test_an_assets_page_in_dagster_links_the_studio(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/assets/revisions?view=overview")
    link = page.locator('a[href="/studio/chains"]').first
    link.wait_for()
