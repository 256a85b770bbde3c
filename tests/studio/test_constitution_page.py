"""A principle is read, edited, linted, planned, saved as a version and run, from a page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from made_studio import Studio

from cai_assets.constitution.load import load_file
from cai_assets.pipeline.project import Project
from cai_assets.versions.snapshots import Snapshots

ONE = "/constitutions/harmlessness"


def opened(studio: Studio) -> dict[str, Any]:
    """What the page of the editor holds."""
    html = studio.get(ONE).text
    seen = re.search(r'data-seen="([^"]+)"', html)
    assert seen
    return {"file": (studio.root / "constitutions" / "harmlessness.yaml").read_text(), "seen": seen[1]}


def edit_of(page: dict[str, Any], text: str = "Which answer would a careful parent prefer?") -> dict[str, Any]:
    return {"file": page["file"], "edits": [["fraud", "preference", text]]}


def test_the_first_page_names_every_constitution_and_links_its_editor(empty: Studio) -> None:
    html = empty.get("/").text
    for name in ("harmlessness", "customer-service", "plain-speech", "red-team"):
        assert f'href="/studio/constitutions/{name}"' in html


def test_the_editor_shows_every_text_of_every_principle_escaped(empty: Studio) -> None:
    path = empty.root / "constitutions" / "harmlessness.yaml"
    path.write_text(path.read_text().replace("Which answer is the more useful", "Which <script>alert(1)</script>", 1))
    html = empty.get(ONE).text
    constitution = load_file(path)
    for principle in constitution.principles:
        assert f'id="p-{principle.id}"' in html
        for field in ("critique", "revision", "preference", "evaluation"):
            assert (f'id="t-{principle.id}-{field}"' in html) == bool(getattr(principle, field))
    assert "<script>alert" not in html


def test_lint_while_typing_says_what_is_wrong_and_changes_nothing(empty: Studio) -> None:
    before, page = empty.files, opened(empty)
    good = empty.post(f"{ONE}/check", edit_of(page)).json()
    assert good["problems"] == []
    assert "careful parent" in good["file"]
    assert good["texts"]["fraud"]["preference"] == "Which answer would a careful parent prefer?"
    bad = empty.post(f"{ONE}/check", {"file": page["file"].replace("preference:", "preferense:", 1)}).json()
    assert "did you mean 'preference'?" in bad["problems"][0]
    assert bad["version"] is None
    empty_text = empty.post(f"{ONE}/check", edit_of(page, " ")).json()
    assert empty_text["problems"]
    assert empty.files == before


def test_the_plan_of_an_edit_that_nobody_saved(planned: Studio) -> None:
    page = opened(planned)
    before = [p for p in planned.files if "constitutions" in p]
    answer = planned.post(f"{ONE}/plan", {**edit_of(page), "scale": "smoke"}).json()
    assert "training runs" in answer["summary"]
    assert "critiques" in answer["html"]
    assert [p for p in planned.files if "constitutions" in p] == before  # no snapshot of it
    broken = planned.post(f"{ONE}/plan", {"file": "version: 1"}).json()
    assert broken["summary"] == "This cannot be planned before it is mended."


def test_a_save_writes_the_file_registers_the_version_and_adds_the_partition(empty: Studio) -> None:
    page, path = opened(empty), empty.root / "constitutions" / "harmlessness.yaml"
    saved = empty.post(f"{ONE}/save", {**edit_of(page), "seen": page["seen"]}).json()
    assert load_file(path).principle("fraud").preference == "Which answer would a careful parent prefer?"
    assert path.read_text().startswith("# yaml-language-server")
    layout = Project.open().layout
    assert Snapshots(layout).load(saved["version"]) == load_file(path)
    assert empty.runs.added == [saved["version"]]
    assert "careful parent" in empty.get(f"/versions/{saved['version']}").text


def test_a_file_that_changed_meanwhile_is_not_overwritten(empty: Studio) -> None:
    page, path = opened(empty), empty.root / "constitutions" / "harmlessness.yaml"
    path.write_text(path.read_text() + "\n# someone else's word\n")
    refused = empty.post(f"{ONE}/save", {**edit_of(page), "seen": page["seen"]})
    assert refused.status_code == 400
    assert "has changed since this page was opened" in refused.json()["error"]
    assert path.read_text().endswith("# someone else's word\n")
    assert empty.runs.added == []


def test_windows_line_ends_survive_a_browser(empty: Studio) -> None:
    path = empty.root / "constitutions" / "harmlessness.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    page = opened(empty)
    typed = {**edit_of(page), "file": page["file"].replace("\r\n", "\n"), "seen": page["seen"]}
    assert empty.post(f"{ONE}/save", typed).status_code == 200
    assert b"\n" not in path.read_bytes().replace(b"\r\n", b"")


def test_a_run_is_launched_for_a_registered_version_alone(empty: Studio) -> None:
    page = opened(empty)
    version = empty.post(f"{ONE}/save", {**edit_of(page), "seen": page["seen"]}).json()["version"]
    assert empty.post(f"/versions/{version}/run", {"scale": "smoke"}).json()["address"] == "/runs/a-run"
    assert empty.runs.launched == [(version, {"scale": "smoke"}, ())]
    unknown = empty.post("/versions/nobody-v1-00000000/run", {"scale": None})
    assert unknown.status_code == 404
    assert "no registered constitution" in unknown.json()["error"]
    assert len(empty.runs.launched) == 1


@pytest.mark.parametrize("name", ["nobody", "%2e%2e%2fsettings", "settings"])
def test_only_a_constitution_file_can_be_opened(empty: Studio, name: str) -> None:
    answer = empty.get(f"/constitutions/{name}")
    assert answer.status_code in {404, 405}
    assert "constitutions:" not in answer.text


def test_a_broken_file_can_be_mended_as_a_whole(empty: Studio) -> None:
    path = empty.root / "constitutions" / "harmlessness.yaml"
    whole = path.read_text()
    path.write_text("principles: [")
    html = empty.get(ONE).text
    assert "not valid YAML" in html
    assert 'id="file"' in html
    seen = re.search(r'data-seen="([^"]+)"', html)
    assert seen
    assert empty.post(f"{ONE}/save", {"file": whole, "seen": seen[1]}).status_code == 200
    assert path.read_text() == whole
