"""Two versions made by the scripted engine: chains, traces, arena and reports, and how one goes on from a version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from docs_scripts import script
from histories import History, copy_instead_of_training
from made_studio import Counted, Studio, project_folder

from cai_assets.assets import BASE, TO_ATTRIBUTE
from cai_assets.defs import launch
from cai_assets.evals.review_file import read_review
from cai_assets.pipeline.project import Project
from cai_assets.reports.version.evidence import evidence_of
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.studio.answers import asked
from cai_assets.studio.votes import Votes
from cai_assets.versions.archive import Archive
from cai_assets.versions.derived import Derivations

EDITED = "Say in one sentence whom the last answer could hurt."


class World(Studio):
    """A studio over a folder in which two versions were made; ``first`` and ``second``, which edits one principle."""

    def __init__(self, root: Path, model: Path) -> None:
        super().__init__(root, Counted())
        history = History(root / "data", model)
        history.settings["prompts"] = {"red_team": 4, "helpful": 1, "eval_red_team": 2, "eval_helpful": 1}
        self.settings = history.settings
        self.first = self._made(history)
        principles = [p.model_copy(update={"critique": EDITED}) if p.critique else p
                      for p in history.constitution.principles]
        history.constitution = history.constitution.model_copy(update={"principles": tuple(principles)})
        self.second = self._made(history)

    def _made(self, history: History) -> str:
        whole, version = history.run(self.root / "data")
        assert whole
        return version

    @property
    def prompt(self) -> str:
        """Of a chain that both versions have."""
        table = evidence_of(Project.open().layout, self.second).table("revisions")
        assert table is not None
        return str(table["prompt_id"][0])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model: Path) -> World:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        return World(tmp_path_factory.mktemp("made"), model)


@pytest.fixture
def world(made: World, monkeypatch: pytest.MonkeyPatch) -> World:
    project_folder(made.root, monkeypatch, **made.settings)
    return made


def test_the_first_page_links_everything_of_a_version_that_was_made(world: World) -> None:
    html = world.get("/").text
    for address in (f"versions/{world.second}", f"chains/{world.second}", f"arena?versions={world.second}"):
        assert f'href="/studio/{address}"' in html


def test_chains_are_filtered_by_principle_category_text_and_what_changed(world: World) -> None:
    def listed(**asked_for: str) -> set[str]:
        html = world.get(f"/chains/{world.second}", params=asked_for).text
        return set(re.findall(rf'href="/studio/chains/{world.second}/([^"?]+)', html))

    revisions = evidence_of(Project.open().layout, world.second).table("revisions")
    assert revisions is not None
    principle = str(revisions["principle_id"][0])
    every = listed()
    assert listed(principle=principle) == set(revisions.filter(principle_id=principle)["prompt_id"]) <= every
    assert listed(since=world.first) == set(revisions["prompt_id"])  # each critique was asked in other words
    assert listed(since=world.second) == listed(text="no prompt says this") == listed(category="no-such") == set()
    assert listed(principle="<script>") == set()


def test_a_chain_from_its_prompt_to_its_label_with_word_diffs(world: World) -> None:
    html = world.get(f"/chains/{world.second}/{world.prompt}").text
    assert "Round 1: critique by" in html
    assert "Round 3: revision" in html
    assert "Pair " in html
    assert "<del>" in html
    assert "<ins>" in html
    assert EDITED in html
    trained = world.get(f"/trained/{world.prompt}").text
    assert f"sl_policy/{world.second}/" in trained
    assert f"reward_model/{world.second}/" in trained


def test_the_same_chain_under_two_versions(world: World) -> None:
    html = world.get(f"/chains/{world.second}/{world.prompt}", params={"beside": world.first}).text
    assert "First response: the same." in html
    assert "What differs from the other version" in html
    assert world.first in html
    assert world.second in html
    unknown = world.get(f"/chains/{world.second}/nobody-asked")
    assert unknown.status_code == 404
    assert "no row" in unknown.text


def test_the_arena_shows_each_policy_once_and_hides_names_on_request(world: World) -> None:
    query = {"versions": [world.first, world.second]}
    named = world.get("/arena", params=query).text
    for name in ("base model", f"RL policy of {world.first}", f"RL policy of {world.second}"):
        assert named.count(f">{name}</span>") == 1
    blind = world.get("/arena", params={**query, "blind": "seed"}).text
    assert "policy of" not in blind
    assert "base model" not in blind
    assert ">A</span>" in blind
    texts = [set(re.findall(r'<p class="text">([^<]*)</p>', page)) for page in (named, blind)]
    assert texts[0] == texts[1]


def test_a_judgment_is_kept_where_agreement_and_the_gate_read_it(world: World) -> None:
    project = Project.open()
    found, prompts = asked(project, [world.second])
    blind = [answer.name for answer in found.shown("seed")]
    body: dict[str, Any] = {"versions": [world.second], "prompt": prompts[0], "blind": "seed",
                            "better": blind.index(f"RL policy of {world.second}")}
    kept = world.post("/arena/vote", body).json()
    assert kept["names"] == blind
    votes = Votes(project.layout)
    read = read_comparisons(votes.path, soft=False)
    best = next(a.text for a in found.answers if a.name == f"RL policy of {world.second}")
    others = {a.text for a in found.answers} - {best}
    assert (read.rejects.height, read.notes) == (0, ())
    assert set(read.frame["chosen"]) == {best}
    assert set(read.frame["rejected"]) == others
    assert kept["new"] == len(others) == votes.count
    assert world.post("/arena/vote", body).json()["new"] == 0  # once is enough
    training = read_comparisons(votes.path, training=True)
    assert training.frame.is_empty()
    assert set(training.left_out) == {"its split is for evaluation"}


def test_a_prompt_of_ones_own_shows_its_cost_and_is_sampled_only_when_asked(world: World) -> None:
    typed = "Whom does a ladder help?\nSay it briefly."
    query = {"versions": [world.second], "text": typed.replace("\n", "\r\n")}
    before = world.get("/arena", params=query).text
    assert "4 of 4 answers to sample, of at most " in before
    assert "Sample 4 answers" in before
    assert 'class="who"' not in before
    other = {"CAI_SETTINGS": str(world.root / "settings.yaml")}
    asked_for = [sys.executable, "-m", "cai_assets.cli", "ask", "-", world.second, "--json"]
    world.runs.read_only = True
    body = {"versions": [world.second], "text": typed}
    assert world.post("/arena/sample", body).status_code == 403
    assert "Sample 4" not in world.get("/arena", params=query).text
    world.runs.read_only = False
    assert world.post("/arena/sample", {**body, "text": " "}).json()["error"] == "choose a version and write a prompt"
    assert world.post("/arena/sample", body).json() == {"again": ""}
    after = world.get("/arena", params=query).text
    assert "All 4 answers are stored" in after
    assert after.count('class="who"') == 4
    again = subprocess.run(asked_for, input=typed, env={**os.environ, **other}, capture_output=True, text=True,
                           check=True)
    answers = json.loads(again.stdout)["answers"]
    assert [a["status"] for a in answers] == ["reused"] * 4  # the command asks for the same rows
    assert all(a["text"].strip() in unescape(after) for a in answers)
    vote = {"versions": [world.second], "text": typed, "better": 0}
    assert world.post("/arena/vote", vote).json()["new"] >= 1


@pytest.mark.parametrize("change", [{"better": 99}, {"better": -1}, {"prompt": "nobody-asked"}, {"versions": []},
                                    {"versions": ["nobody-v1-00000000"]}])
def test_a_judgment_of_what_is_not_there_is_refused(world: World, change: dict[str, Any]) -> None:
    _, prompts = asked(Project.open(), [world.second])
    before = Votes(Project.open().layout).count
    refused = world.post("/arena/vote", {"versions": [world.second], "prompt": prompts[0], "better": 0, **change})
    assert refused.status_code in {400, 404}
    assert refused.json()["error"]
    assert Votes(Project.open().layout).count == before


def test_every_report_opens_and_writes_nothing(world: World) -> None:
    before = set(world.files)
    html = world.get("/reports").text
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="/studio(/reports/[^"#]+)"', html)}
    assert {f"/reports/version/{world.first}", f"/reports/version/{world.second}", "/reports/versions",
            f"/reports/compare?before={world.first}&after={world.second}"} <= links
    for link in sorted(links):
        page = world.get(link)
        assert page.status_code == 200
        assert "Studio: all reports" in page.text
        assert any("script-src" not in p and "default-src 'none'" in p
                   for p in page.headers.get_list("content-security-policy"))
    assert {name for name in world.files if not name.endswith((".lock", "settings.yaml"))} <= before


@pytest.mark.parametrize("name", ["../records", "..%2f..%2fsettings.yaml", "version/nobody.html", "x.md"])
def test_only_a_page_below_reports_is_shown(world: World, name: str) -> None:
    assert world.get(f"/reports/files/{name}").status_code == 404


def test_what_models_say_is_shown_and_never_live(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from cai_assets.reports.version import evidence as of

    rows = of.Evidence.rows.func  # type: ignore[attr-defined]
    monkeypatch.setattr(of.Evidence, "rows", property(lambda e: rows(e).with_columns(
        response=rows(e)["response"] + "<img src=x onerror=alert(1)>\u202e")))
    html = world.get("/arena").text
    assert "<img" not in html
    assert "&lt;img" in html
    assert "\\u202e" in html
    assert BASE in html


def test_from_a_version_down_to_the_rows_and_principles_of_its_checkpoint(world: World) -> None:
    html = world.get(f"/versions/{world.second}").text
    assert "2nd of " in html
    assert f'href="/studio/trace/rl_policy@{world.second}"' in html
    trace = world.get(f"/trace/rl_policy@{world.second}").text
    for principle in Project.open().snapshots.load(world.second).taking_part("critique"):
        assert f"principle={principle.id}" in trace
    assert EDITED in trace
    links = {link for page in (trace, world.get(f"/trace/rl_policy@{world.second}?from=40").text)
             for link in re.findall(r'href="/studio(/(?:trace|chains)/[^"?#]+)"', page)}
    assert f"/trace/sl_policy/{world.second}/000001" in links
    assert f"/chains/{world.second}/{world.prompt}" in links
    for link in sorted(links)[:4]:
        assert world.get(link).status_code == 200
    assert "did you mean" in world.get(f"/trace/rl_polcy@{world.second}").text.lower()


def test_the_reference_of_tables_is_current_and_describes_every_column(world: World) -> None:
    tables = script("tables")
    page = tables.PAGE.read_text(encoding="utf-8")
    assert page == tables.page(Project.open().layout), "run: python docs/tables.py DATA_ROOT, of a version made whole"
    assert "|  |" not in page


def test_an_unknown_address_says_what_to_do(world: World) -> None:
    for path in ("/nowhere", "/arena/vote"):
        html = world.get(path).text
        assert "Not Found" not in html
        assert 'href="/studio/"' in html
    assert "choose one above" in world.get("/nowhere").text


def test_a_version_is_archived_and_restored(world: World) -> None:
    def archived() -> bool:
        return world.first in Archive(Project.open().layout).archived()

    for wanted in (True, True, False):
        answer = world.post(f"/versions/{world.first}/archive", {"archived": wanted})
        assert (answer.status_code, archived()) == (200, wanted)
        assert ("Restore" in world.get(f"/versions/{world.first}").text) == wanted


def test_the_next_round_is_planned_then_started(world: World) -> None:
    later, before = f"{world.first}-r2", len(world.runs.launched)
    assert later in world.get(f"/versions/{world.first}/round").text
    plan = world.get(f"/versions/{world.first}/round/plan").text
    assert "training run" in plan
    assert later not in Project.open().snapshots.known()  # a plan registers nothing
    started = world.post(f"/versions/{world.first}/round/start", {"scale": "smoke"}).json()
    assert started["address"] == "/runs/a-run"
    assert later in Project.open().snapshots.known()
    assert world.runs.launched[before:] == [(later, {"scale": "smoke"}, ())]
    assert world.get(f"/versions/{later}/round").status_code == 404  # its RL policy comes first


def test_attribution_is_planned_then_handed_over_a_run_for_each_derived_version(world: World) -> None:
    page, before = f"/versions/{world.second}/attribution", len(world.runs.launched)
    principle = Project.open().snapshots.load(world.second).principles[0].id
    asked_for = f"principles={principle}&null=on"
    assert f"/attribution/plan?{asked_for.replace('&', '&amp;')}" in world.get(f"{page}?{asked_for}").text
    plan = world.get(f"{page}/plan?{asked_for}").text
    assert f"without {principle}" in plan
    assert "At most" in plan
    assert Derivations(Project.open().layout).origins() == []
    body = {"principles": [principle], "null": True, "seeds": "1", "scale": "smoke"}
    assert "2 runs were handed" in world.post(f"{page}/start", body).json()["said"]
    seed = Project.open().settings.seed + 1
    assert [run[1:] for run in world.runs.launched[before:]] == [
        ({"scale": "smoke", "seed": seed}, TO_ATTRIBUTE), ({"scale": "smoke"}, TO_ATTRIBUTE)]
    derived = {o.key for o in Derivations(Project.open().layout).origins()}
    assert derived == {run[0] for run in world.runs.launched[before:]}
    assert all(key in world.get(page).text for key in derived)
    assert f"What each principle of {world.second} does" in world.get(f"/reports/attribution/{world.second}").text
    refused = world.post(f"{page}/start", {**body, "seeds": "99"})
    assert "seeds" in refused.json()["error"]


def test_breaks_are_reviewed_one_by_one_and_the_kept_ones_become_training_prompts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.root / "workspace.yaml").touch()
    monkeypatch.chdir(world.root)
    search = {"version": world.second, "policy": "rl_policy", "broke": "complied"}
    assert "prompts broke rl_policy" in world.get("/red-team", params=search).text
    address = world.post("/red-team/breaks", search).json()["again"].removeprefix("/studio")
    assert "may hold decisions" in world.post("/red-team/breaks", search).json()["error"]
    file = world.root / "reviews" / address.rpartition("/")[2]
    rows = read_review(file)
    refused = world.post(f"{address}/accept", {"into": "found.jsonl"})
    assert "decide" in refused.json()["error"]
    for at in range(len(rows)):
        html = world.get(f"{address}?at={at}").text
        seen = re.search(r'name="seen" value="([^"]+)"', html)
        assert seen
        decision = {"at": str(at), "seen": seen[1], "prompt": "Say it kindly." if at == 0 else rows[at].prompt,
                    "note": "", "keep": "yes" if at == 0 else "no"}
        assert world.post(f"{address}/decide", decision).status_code == 200
        assert "has changed" in world.post(f"{address}/decide", decision).json()["error"]  # a page that is older
    assert [row.keep for row in read_review(file)] == [True] + [False] * (len(rows) - 1)
    for name in ("../settings.jsonl", "/tmp/x.jsonl", "x.yaml", ".hidden.jsonl"):
        assert "cannot name" in world.post(f"{address}/accept", {"into": name}).json()["error"]
    said = world.post(f"{address}/accept", {"into": "found.jsonl"}).json()["said"]
    assert said.startswith("1 prompts added to prompts/found.jsonl")
    assert "Say it kindly." in (world.root / "prompts" / "found.jsonl").read_text()
