"""Two versions made through the graph and compared: what changed is what the draws say, in JSON, page and Dagster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from histories import ROUNDS, History, copy_instead_of_training
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.draw import critique_key, draw
from cai_assets.defs import launch
from cai_assets.defs.comparison import pair_metadata, successive
from cai_assets.plan.plan import make_plan
from cai_assets.reports.compare.control import controlled
from cai_assets.reports.compare.gather import Comparison, as_dict, compare, compare_sides, with_control
from cai_assets.reports.compare.metrics import SAME as METRIC_SAME
from cai_assets.reports.compare.page import page_path, render, save
from cai_assets.reports.compare.sides import Side, side
from cai_assets.reports.compare.words import sentences
from cai_assets.steps.comparisons import comparisons
from cai_assets.store.layout import Layout
from cai_assets.store.pages import with_digest
from cai_assets.store.records import RecordMissing, Records
from cai_assets.versions.snapshots import Snapshots

HOSTILE = '<img src="http://evil.example/x" onerror=alert(1)>\u202e'
EDITED = 1


class Two:
    """A history of two versions that differ in one principle, written by somebody who means ill."""

    def __init__(self, root: Path) -> None:
        self.history = History(root, tiny_model(root / "tiny"))
        self.history.settings = {**self.history.settings, "pairs": {"source": "generator"}}
        self.data, self.layout = root / "data", Layout(root / "data")
        _, self.first = self.history.run(self.data)
        principles = list(self.history.constitution.principles)
        self.edited = principles[EDITED].id
        principles[EDITED] = principles[EDITED].model_copy(update={"critique": HOSTILE, "preference": HOSTILE})
        self.history.constitution = self.history.constitution.model_copy(update={"principles": tuple(principles)})
        project = self.history.project(self.data)
        self.second = project.snapshots.register(self.history.constitution)
        self.plan = {line.asset: line for line in make_plan(project, self.second).lines}
        assert self.history.run(self.data) == (True, self.second)
        self.found = compare(self.layout, self.first, self.second)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        yield Two(tmp_path_factory.mktemp("two"))


def test_changed_rows_are_those_whose_chain_drew_the_edited_principle(two: Two) -> None:
    found = two.found.revisions
    assert found is not None
    principles = two.history.constitution.taking_part("critique")
    expected, direct = set(), 0
    for prompt in found.rows["prompt_id"].unique():
        drawn = [draw(principles, critique_key(prompt, k)).id for k in range(1, ROUNDS + 1)]
        first = drawn.index(two.edited) if two.edited in drawn else ROUNDS
        expected |= {(prompt, k) for k in range(first + 1, ROUNDS + 1)}
        direct += drawn.count(two.edited)
    changed = found.rows.filter(text="changed")
    assert set(changed.select("prompt_id", "round").rows()) == expected
    assert found.rows.filter("asked_again").height == len(expected)
    assert list(found.causes().values()) == [direct, 0, len(expected) - direct]
    record = two.found.after.records["revisions"]
    assert record.generated == len(expected)
    assert two.plan["revisions"].generate_min <= len(expected) <= two.plan["revisions"].generate_max


def test_labels_are_compared_on_the_pairs_of_the_pinned_generator(two: Two) -> None:
    found = two.found.labels
    assert found is not None
    assert (found.only_before, found.only_after) == (0, 0)
    assert found.shared == found.before.consistent.n > 0
    moved = found.by_principle.filter(pl.col("mean shift") > 0)["principle"].to_list()
    assert set(moved) <= {two.edited}


def test_a_few_prompts_tell_nothing_and_the_page_says_so(two: Two) -> None:
    said = " ".join(sentences(two.found))
    assert "1 principle edited, 4 unchanged" in said
    assert "is not known: fewer than 20 prompts" in said
    assert two.found.metrics is not None
    assert set(two.found.metrics.filter(policy="rl_policy")["verdict"]) <= {"too few to tell", "the same responses"}
    assert set(two.found.metrics.filter(policy="base", metric="refusal")["verdict"]) == {"the same responses"}
    assert two.found.notes == ()


def test_the_settings_say_what_it_takes_to_claim_a_difference(two: Two) -> None:
    def with_settings(s: Side) -> Side:
        record = s.records["evaluation"]
        changed = {**record.settings["evaluation"], "enough": 2, "confidence": 0.5}
        settings = {**record.settings, "evaluation": changed}
        return replace(s, records={**s.records, "evaluation": record.model_copy(update={"settings": settings})})

    assert two.found.telling == (0.95, 20)
    found = compare_sides(with_settings(two.found.before), with_settings(two.found.after))
    assert found.telling == (0.5, 2)
    assert found.metrics is not None
    assert "too few to tell" not in set(found.metrics.filter(found.metrics["n"] >= 2)["verdict"])
    assert "fewer than 20" not in " ".join(sentences(found))
    page = render(found)
    assert "below 2 prompts there is no verdict" in page
    assert "comparisons at 50%" in page
    shorter = [f.labels.shift.high - f.labels.shift.low for f in (found, two.found) if f.labels]  # type: ignore[operator]
    assert shorter[0] < shorter[1]


def test_the_page_needs_nothing_from_elsewhere_and_hostile_texts_stay_texts(two: Two) -> None:
    found = two.found
    assert found.revisions is not None
    hostile = found.revisions.worst.with_columns(pl.lit(HOSTILE).alias("after"), pl.lit(HOSTILE).alias("prompt"))
    html = render(Comparison(**{**vars(found), "revisions": type(found.revisions)(
        **{**vars(found.revisions), "worst": hostile})}))
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(html)
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in tags}
    links = [v for _, a in tags for k, v in a.items() if k in {"href", "src"}]
    assert links
    assert all(v is not None and v.startswith("#") for v in links)
    assert not any(k.startswith("on") for _, a in tags for k in a)
    assert "&lt;img" in html
    assert "\u202e" not in html
    assert found.stamp in html


def test_records_are_compared_as_they_were_used_and_what_else_differs_is_said(two: Two) -> None:
    ids = [f"evaluation/{v}/000001" for v in (two.first, two.second)]
    exact = compare(two.layout, *ids)
    assert as_dict(exact)["metrics"] == as_dict(two.found)["metrics"] != []
    assert exact.before.records["revisions"] == two.found.before.records["revisions"]
    assert page_path(two.layout, *ids).name.startswith(f"evaluation-{two.first}-000001-evaluation-")
    assert len({page_path(two.layout, x * 80, y) for x in "ab" for y in ("a" * 80, "b" * 80)}) == 4
    same = compare(two.layout, two.first, two.first)
    assert same.revisions is not None
    assert (same.revisions.count("changed"), same.principles.empty) == (0, True)
    assert same.rewards is not None
    assert same.rewards.why_none == "the same checkpoint"
    with pytest.raises(LookupError, match="belongs to no constitution version"):
        side(two.layout, "prompts/all/000001")


def test_reward_models_are_compared_on_pairs_that_were_held_out_from_both(two: Two) -> None:
    folders = [s.checkpoint("reward_model") for s in (two.found.before, two.found.after)]
    assert folders[0] != folders[1]
    tables = [s.table("preference_pairs") for s in (two.found.before, two.found.after)]
    counts = [comparisons(t, 0.2).height for t in tables if t is not None]
    try:
        for folder, count in zip(folders, counts, strict=True):
            lines = [json.dumps({"index": i, "reward_chosen": 1.0, "reward_rejected": 0.0, "p_chosen": 0.9})
                     for i in range(count)]
            (Path(str(folder)) / "held_out.jsonl").write_text("\n".join(lines))
        found = compare(two.layout, two.first, two.second)
    finally:
        for folder in folders:
            (Path(str(folder)) / "held_out.jsonl").write_text("")
    assert found.rewards is not None
    assert found.labels is not None
    assert found.rewards.why_none is None
    assert 0 < found.rewards.agreement.n == min(counts)
    assert "make the same choice on" in " ".join(sentences(found))


def test_json_is_json(two: Two) -> None:
    found = json.loads(json.dumps(as_dict(two.found)))
    assert len(found["revisions"]["changed"]) == found["revisions"]["texts"]["changed"]
    assert found["labels"]["flips"]["n"] >= 0
    assert {r["side"] for r in found["cost"]} == {"before", "after"}


def test_the_asset_compares_each_version_with_the_one_before(two: Two) -> None:
    project = two.history.project(two.data)
    evaluated = project.records.partitions("evaluation")
    pairs = successive(evaluated, project.snapshots)
    assert pairs == [(two.first, two.second)]
    page = page_path(two.layout, two.first, two.second)
    assert page.is_file()  # written by the run
    shown = pair_metadata(project, pairs)
    assert shown["page"] == dg.MetadataValue.path(str(page))
    assert len(str(shown["changes"].value)) < 1000
    assert "too few to tell" in str(shown["changes"].value)
    assert shown["revisions_changed"] == two.found.revisions.count("changed")  # type: ignore[union-attr]
    assert -1 <= shown["delta_rl_policy_harmlessness_win_rate_red_team"] <= 1
    assert successive([two.second], project.snapshots) == []
    assert pair_metadata(project, []) == {}


def test_the_command_prints_writes_and_refuses(two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(two.data))

    def run(*arguments: str, code: int = 0) -> str:
        result: Any = CliRunner().invoke(app, ["compare", *arguments])
        assert result.exit_code == code, result.output
        return str(result.output)

    text = re.sub(r"\s+", " ", run(two.first, two.second, "--out", str(tmp_path / "page.html")))
    assert "1 principle edited" in text
    assert "too few to tell" in text
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == with_digest(render(two.found))
    assert json.loads(run(two.first, two.second, "--json"))["after"]["version"] == two.second
    assert "Known:" in run(two.first, "nonsense", code=2)
    assert run("evaluation/nonsense/000001", two.first, code=2)
    unmade = two.history.constitution.model_copy(update={"version": "v9"})
    key = Snapshots(two.layout).register(unmade)
    assert f"cai materialize {key}" in run(two.first, key, code=2).replace("\n", " ")
    with pytest.raises(RecordMissing):
        side(two.layout, key)


def test_a_control_is_shown_beside_the_plain_comparison_in_words_json_and_page(
    two: Two, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first version is the control, so that what changed from it to itself is nothing."""
    monkeypatch.setenv("CAI_DATA_ROOT", str(two.data))
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: str, code: int = 0) -> str:
        result: Any = CliRunner().invoke(app, ["compare", two.first, two.second, *arguments])
        assert result.exit_code == code, result.output
        return str(result.output)

    said = run("--control", two.first, "--out", str(tmp_path / "page.html"))
    assert f"Beyond the control {two.first}: " in said
    assert " less +0.00 of the control, " in said
    assert "(after minus before) minus (control minus before)" in said
    assert f"--control {two.first}" in (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = json.loads(run("--control", two.first, "--json"))
    assert shown["control"]["version"] == two.first
    plain = {(r["policy"], r["metric"], r["prompts"]): r["delta"] for r in shown["metrics"]}
    beyond = {(r["policy"], r["metric"], r["prompts"]): r["delta"] for r in shown["control"]["metrics"]}
    assert beyond == pytest.approx(plain)
    assert "Known:" in run("--control", "nonsense", code=2)
    Snapshots(two.layout).register(two.history.constitution.model_copy(update={"name": "unmade"}))
    assert "run cai materialize unmade" in run("--control", "unmade", code=2)

    itself = with_control(two.found, two.layout, two.history.constitution.name)  # its newest version
    assert itself.control is not None
    assert itself.control.metrics is not None
    assert set(itself.control.metrics["verdict"]) == {METRIC_SAME}
    assert f"{two.second} is the version that it is a control of: name another one." in sentences(itself)
    assert itself.stamp != two.found.stamp
    newest = itself.control.side
    without = replace(newest, records={a: r for a, r in newest.records.items() if a != "evaluation"})
    partly = replace(two.found, control=controlled(two.found.before, two.found.after, without, two.found.telling))
    assert any("nothing can be said" in s for s in sentences(partly))
    assert "At least one of the three versions has not been evaluated." in render(partly)


def test_a_version_that_was_made_in_part_is_compared_in_part(two: Two, tmp_path: Path) -> None:
    records = Records(two.layout)
    part = f"revisions/{two.second}/{records.latest('revisions', two.second).number:06d}"
    found = compare(two.layout, two.first, part)
    assert (found.labels, found.metrics, found.rewards) == (None, None, None)
    assert found.revisions is not None
    said = " ".join(sentences(found))
    assert "Whether it is better cannot be said" in said
    assert "Labels are not compared" in said
    assert "At least one version has not been evaluated" in save(two.layout, found, tmp_path / "x.html").read_text()
