"""A person's way through the UI alone: which version is newest, what it would cost, how to run it, how far it is,
whether it is better, which principle did it, and what it was made from.

Scripted engine, tiny model; a training is a copy of its base (``live_location``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server import Served, graphql, wait_for

pytestmark = pytest.mark.browser
TEXT = """version: "v1"
principles:
  - {{id: harm, critique: "{critique}", revision: Remove harm., preference: Which is milder?}}
  - {{id: lies, critique: Identify lies., revision: Remove lies., preference: Which is more honest?}}
"""
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"


class Person:
    """Looks at pages and clicks; knows the address and nothing else."""

    def __init__(self, served: Served, page: Any, constitution: Path) -> None:
        self.served, self.page, self.constitution = served, page, constitution

    def versions(self) -> list[str]:
        """The partitions as the constitution's page lists them, the newest last."""
        self.page.goto(f"{self.served.url}/assets/constitution?view=partitions")
        found = self.page.get_by_text("mild-v1-")
        found.first.wait_for()
        return list(dict.fromkeys(found.all_inner_texts()))

    def run(self, where: str, version: str) -> str:
        """Materialize what a page offers for one version, and follow the link to the run; its status at the end."""
        self.page.goto(self.served.url + where)
        self.page.get_by_role("button", name="Materialize").first.click()
        self.page.get_by_role("dialog").get_by_text("Select a partition or create one").click()
        self.page.get_by_role("menuitem").filter(has_text=version).or_(
            self.page.locator("[role=option]").filter(has_text=version)).first.click()
        self.page.keyboard.press("Escape")
        self.page.get_by_role("button", name="Launch 1 run").click()
        self.page.get_by_text("Launched run").wait_for()
        self.page.get_by_text("View", exact=True).last.click()
        wait_for(lambda: "/runs/" in self.page.url, self.served.root)
        run = self.page.url.rsplit("/", 1)[1][:36]
        wait_for(lambda: self._status(run) in {"SUCCESS", "FAILURE"}, self.served.root)
        return self._status(run)

    def sees(self, asset: str, version: str, *texts: str) -> None:
        """Every text stands on an asset's page of a version, once its tables are drawn."""
        self.page.goto(f"{self.served.url}/assets/{asset}?view=partitions&partition={version}")
        for text in texts:
            self.page.get_by_text(text).first.wait_for(state="attached")

    def _status(self, run: str) -> str:
        runs = graphql(self.served.url, RUNS)["runsOrError"]["results"]
        return str(next(r["status"] for r in runs if r["runId"] == run))


@pytest.fixture(scope="module")
def person(served: Served, chromium: Any) -> Iterator[Person]:
    constitution = served.constitutions / "mild.yaml"
    constitution.write_text(TEXT.format(critique="Identify harm."))
    page = chromium.new_page(viewport={"width": 1500, "height": 1400})
    yield Person(served, page, constitution)
    page.close()


def test_from_an_edited_principle_to_the_trace_in_the_ui_alone(person: Person) -> None:
    (first,) = person.versions()
    assert person.run("/locations/live_location/jobs/all", first) == "SUCCESS"
    person.constitution.write_text(TEXT.format(critique="Identify harm and haste."))
    wait_for(lambda: len(person.versions()) == 2, person.served.root)
    newest = person.versions()[-1]
    assert newest != first

    assert person.run("/assets/constitution", newest) == "SUCCESS"  # costs nothing, and says what the rest would
    person.sees("constitution", newest, first, "edited harm", "harm and haste", "response_pairs", "plan_causes",
                "planned_rows_at_most")

    assert person.run("/locations/live_location/jobs/all", newest) == "SUCCESS"
    person.page.goto(f"{person.page.url.partition('?')[0]}?logs=rows%2Fs")
    person.page.get_by_text("00:00 left").first.wait_for()  # what progress looked like, with its rate
    person.sees("critiques", newest, "generated", "reused", "planned")

    person.sees("report", newest, "Is it better than the base model?", "too few to tell")
    person.sees("evaluation", newest, "base_again")
    person.sees("suite_results", newest, "attack success")
    person.sees("attribution", newest, "principle left out", f"cai attribute {newest} --plan")

    person.sees("rl_policy", newest, f"cai trace rl_policy@{newest}", "principle_shares", "of completion tokens")
    person.page.get_by_role("link", name=f"sl_policy · {newest}").click()
    wait_for(lambda: f"/assets/sl_policy?view=partitions&partition={newest}" in person.page.url, person.served.root)
    person.page.get_by_text(f"cai trace sl_policy@{newest}").first.wait_for()
    person.sees("constitution", newest, "reached_rl_policy", f"cai trace rl_policy@{newest}")
