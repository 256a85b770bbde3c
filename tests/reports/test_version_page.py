"""The page of a version and the page across versions: numbers equal the records', missing parts are named, texts of
rows stay texts, and the asset and the command give the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from histories import History, copy_instead_of_training
from pages import Page, faults
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.check import Check
from cai_assets.defs import launch
from cai_assets.defs.report import report_metadata
from cai_assets.defs.round_quality import round_metadata
from cai_assets.evals.gate import GateResult
from cai_assets.evals.rounds import Rounds
from cai_assets.evals.statistics import Estimate
from cai_assets.evals.suites.model import POOLED
from cai_assets.plan.power import Judged, calls_of, plan_power
from cai_assets.reports.compare.sides import older
from cai_assets.reports.text.numbers import share
from cai_assets.reports.version.answers import answers
from cai_assets.reports.version.evidence import Evidence, beside, evaluated, every_version, evidence_of
from cai_assets.reports.version.figures import figures, headline, numbers
from cai_assets.reports.version.page import page_path, render, save
from cai_assets.reports.version.policies import basis, difference, differences
from cai_assets.reports.versions import page as across
from cai_assets.settings import Monitors
from cai_assets.store.layout import Layout
from cai_assets.store.pages import with_digest
from cai_assets.store.records import RecordMissing
from cai_assets.versions.snapshots import Snapshots

HOSTILE = '<img src="http://evil.example/x" onerror=alert(1)>\u202e</p>'
SECTIONS = ["In short", "Helpfulness and harmlessness", "Suites and attacks", "Principles", "Tests of the constitution",
            "What each principle prevents", "Rounds of critique", "Labels", "Reward hacking", "Training", "Samples",
            "Cost", "How to reproduce", "Records"]


class Two:
    """Two versions that differ in one principle, made by the whole graph."""

    def __init__(self, root: Path) -> None:
        self.history = History(root, tiny_model(root / "tiny"))
        self.history.settings["prompts"] |= {"eval_red_team": 6, "eval_helpful": 6}
        self.data, self.layout = root / "data", Layout(root / "data")
        made, self.first = self.history.run(self.data)
        principles = list(self.history.constitution.principles)
        edit = {"critique": "Say what is unkind.", "evaluation": "Which is kind?", "check": Check(max_words=8)}
        principles[1] = principles[1].model_copy(update=edit)
        self.history.constitution = self.history.constitution.model_copy(update={"principles": tuple(principles)})
        again, self.second = self.history.run(self.data)
        assert made
        assert again
        self.found = evidence_of(self.layout, self.second)
        self.html = render(self.found, beside(self.found))
        self.page = Page(self.html)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        yield Two(tmp_path_factory.mktemp("two"))


def estimate(row: dict[str, Any]) -> Estimate:
    return Estimate(row["value"], row["n"], row["low"], row["high"])


def metric(two: Two, policy: str, name: str, prompts: str) -> dict[str, Any]:
    records = two.history.project(two.data).records
    (row,) = records.table(records.latest("evaluation", two.second)).filter(
        policy=policy, metric=name, prompts=prompts).to_dicts()
    return row


def test_the_page_is_self_contained_and_has_every_section(two: Two) -> None:
    assert faults(two.html) == []
    assert [said for level, said in two.page.headings if level == 2] == SECTIONS
    assert len(two.page.of("figure")) >= 6
    assert two.html.count('class="source"') >= len(two.page.of("figure"))
    assert "://" not in re.sub(r"<style>.*?</style>", "", two.html, flags=re.DOTALL)


def test_the_answers_are_the_records_numbers(two: Two) -> None:
    said = {a.question: a for a in answers(two.found)}
    assert all(a.text for a in said.values())
    ours = metric(two, "rl_policy", "harmlessness_win_rate", "red-team")
    assert share(estimate(ours)) in said["Is it better than the base model?"].text
    assert said["Is it better than the base model?"].told.word == ours["verdict"] == "too few to tell"
    plain = metric(two, "sft_baseline", "harmlessness_win_rate", "red-team")
    assert share(estimate(plain)) in said["Is it better than plain SFT?"].text
    helps = said["What does it cost in helpfulness?"].text
    assert share(estimate(metric(two, "rl_policy", "helpfulness_win_rate", "helpful"))) in helps
    assert share(estimate(metric(two, "base", "refusal", "helpful"))) in helps
    rules = said["Does it keep the rules that need no judge?"]
    for policy in ("rl_policy", "base"):
        assert share(estimate(metric(two, policy, "check", "all"))) in rules.text
    assert rules.told.word == metric(two, "rl_policy", "check", "all")["verdict"]
    records = two.history.project(two.data).records
    gate = GateResult.model_validate(records.latest("preference_pairs", two.second).details["gate"])
    assert share(gate.accuracy_debiased) in said["Can the labels be trusted?"].text
    suites = records.table(records.latest("suite_results", two.second))
    (attacks,) = suites.filter(policy="rl_policy", suite=POOLED, headline=True, mode="all").to_dicts()
    assert share(estimate(attacks)) in said["Does it resist attacks?"].text
    generated = sum(r.generated for a in two.found.side.records for r in records.every(a) if r.partition == two.second)
    assert f"{generated:,} model calls" in said["What did it cost?"].text
    for a in said.values():
        assert re.sub(r"\s+", " ", a.text.replace("\u00a0", " ")) in two.page.text


def test_every_policy_of_the_record_is_on_the_page_with_its_interval(two: Two) -> None:
    text = two.page.text
    records = two.history.project(two.data).records
    for row in records.table(records.latest("evaluation", two.second)).filter(
            pl.col("metric").is_in(["harmlessness_win_rate", "helpfulness_win_rate"])).to_dicts():
        assert share(estimate(row)).replace("\u00a0", " ") in text
    assert "base again" in text
    for row in records.table(records.latest("suite_results", two.second)).filter("headline", mode="all").to_dicts():
        assert share(estimate(row)).replace("\u00a0", " ") in text
    rounds = records.table(records.latest("round_quality", two.second)).filter(kind="win rate")
    for row in rounds.to_dicts():
        assert share(estimate(row)).replace("\u00a0", " ") in text


def planted(share: float, seed: int, policy: str) -> pl.DataFrame:
    won = np.random.default_rng(seed).random(120) < share
    return pl.DataFrame({"policy": policy, "prompt_id": [f"p{i}" for i in range(120)], "kind": "red-team",
                         "outcome": won.astype(float), "row_key": "r1:x"})


def test_a_planted_difference_from_plain_sft_is_seen_and_a_planted_null_is_none(two: Two) -> None:
    found = Evidence(replace(two.found.side, records={}))
    found.__dict__["rows"] = pl.concat([planted(0.8, 1, "rl_policy"), planted(0.5, 2, "sft_baseline"),
                                        planted(0.5, 3, "sl_policy")])
    effect = difference(found, "rl_policy", "sft_baseline", "harmlessness")
    assert (effect.verdict, effect.estimate.n) == ("better", 120)
    assert effect.estimate.low < 0.3 < effect.estimate.high
    null = difference(found, "sl_policy", "sft_baseline", "harmlessness")
    assert null.verdict == "no difference seen"
    assert null.estimate.low < 0 < null.estimate.high


@pytest.mark.parametrize(("agreed", "consistent", "word"), [
    (Estimate(0.8, 50, 0.68, 0.9), Estimate(0.9, 50, 0.8, 0.96), "better than guessing"),
    (Estimate(0.3, 50, 0.2, 0.44), Estimate(0.9, 50, 0.8, 0.96), "worse than guessing"),
    (Estimate(0.5, 50, 0.36, 0.63), Estimate(0.6, 50, 0.46, 0.72), "indistinguishable from guessing"),
    (Estimate(0.8, 50, 0.68, 0.9), Estimate(0.1, 50, 0.04, 0.2), "contradicts itself"),
    (Estimate(0.8, 9, 0.5, 0.9), Estimate(0.1, 9, 0.0, 0.3), "too few to tell"),
])
def test_labels_are_trusted_by_agreement_and_not_where_the_orders_contradict(
    two: Two, agreed: Estimate, consistent: Estimate, word: str
) -> None:
    record = two.found.side.records["preference_pairs"]
    gate = GateResult.model_validate(record.details["gate"]).model_copy(
        update={"accuracy_debiased": agreed, "consistency": consistent})
    changed = record.model_copy(update={"details": {**record.details, "gate": gate.model_dump(mode="json")}})
    found = Evidence(replace(two.found.side, records={**two.found.side.records, "preference_pairs": changed}))
    (answer,) = (a for a in answers(found) if a.question == "Can the labels be trusted?")
    assert answer.told.word == word


@pytest.mark.parametrize(("verdict", "word"), [("worse", "1 found"), ("no difference seen", "no difference seen"),
                                               ("too few to tell", "too few to tell"), (None, "not measured")])
def test_which_principle_did_it_is_what_the_attribution_calls_a_difference(
    two: Two, verdict: str | None, word: str
) -> None:
    found = evidence_of(two.layout, two.second)
    row = {"kind": "without", "principle": "warm-under-fire", "delta": 0.31, "low": 0.1, "high": 0.52, "n": 40,
           "verdict": verdict}
    found._tables["attribution"] = pl.DataFrame([row]) if verdict else None
    (answer,) = (a for a in answers(found) if a.question == "Which principle made the difference?")
    assert answer.told is not None
    assert answer.told.word == word
    named = "Without warm-under-fire attack success changes by +0.31 [+0.10, +0.52] over 40 requests"
    assert (named in answer.text.replace("\u00a0", " ")) == (verdict == "worse")


def test_too_few_stays_visible_and_nothing_small_is_called_an_effect(two: Two) -> None:
    assert {d.verdict for d in differences(two.found)} == {"too few to tell"}
    assert "better" not in {a.told.word for a in answers(two.found) if a.told}
    assert "Below 20 prompts there is no verdict" in two.page.text


def test_each_figure_names_its_command_and_its_record(two: Two) -> None:
    for asset in ("evaluation", "suite_results", "round_quality", "preference_pairs", "reward_model", "rl_policy",
                  "critiques"):
        assert f"{asset}/{two.second}/000001" in two.html, asset
    for command in (f"cai report {two.second}", f"cai materialize {two.second} --select round_quality",
                    f"cai trace rl_policy@{two.second}", f"cai feedback {two.second}", f"cai attribute {two.second}"):
        assert command in two.html
    assert two.html.count("Rests on") >= 12


def test_chains_show_critique_and_diff_of_the_same_few_prompts(two: Two) -> None:
    revisions = two.found.table("revisions")
    assert revisions is not None
    shown = re.findall(r"Chain of prompt ([a-z0-9-]+)", two.html)
    assert set(shown) <= set(revisions["prompt_id"])
    assert "<del>" in two.html
    assert "<ins>" in two.html
    assert f"critique by {revisions.filter(prompt_id=shown[0], round=1)['principle_id'][0]}" in two.html


def test_the_same_records_give_the_same_page_and_a_record_id_the_page_of_that_day(two: Two) -> None:
    assert render(evidence_of(two.layout, two.second), beside(two.found)) == two.html
    assert page_path(two.layout, two.second).read_text(encoding="utf-8") == with_digest(two.html)  # the asset wrote it
    then = evidence_of(two.layout, f"report/{two.second}/000001")
    assert then.side.records == two.found.side.records
    assert [a.text for a in answers(then)][:8] == [a.text for a in answers(two.found)][:8]
    other = evidence_of(two.layout, two.second, Monitors(length_growth=9.0))
    assert other.stamp != two.found.stamp


def test_what_was_not_made_is_named_with_the_command_that_makes_it(two: Two) -> None:
    part = evidence_of(two.layout, f"revisions/{two.second}/000001")
    html = render(part)
    assert faults(html) == []
    page = Page(html)
    missing = [a for a in page.of("p") if a.get("class") == "missing"]
    assert len(missing) >= 7
    for asset in ("evaluation", "suite_results", "round_quality", "constitution_tests", "preference_pairs",
                  "reward_model", "rl_policy"):
        assert f"cai materialize {two.second} --select {asset}" in html, asset
    assert {a.told.word for a in answers(part) if a.told} == {"not measured"}
    assert figures(part).height == 0
    assert "Chain of prompt" in html


def test_hostile_texts_of_rows_and_principles_stay_texts(two: Two) -> None:
    found = evidence_of(two.layout, two.second)
    hostile = pl.lit(HOSTILE)
    for asset, columns in (("starting_responses", ["response"]), ("critiques", ["critique"]),
                           ("revisions", ["revision", "before"])):
        table = found.table(asset)
        assert table is not None
        found._tables[asset] = table.with_columns(hostile.alias(c) for c in columns)
    assert found.rows is not None
    found.__dict__["rows"] = found.rows.with_columns(hostile.alias("response"))
    named = found.side.constitution.model_copy(update={"description": HOSTILE, "name": HOSTILE})
    html = render(replace_side(found, named))
    assert faults(html) == []
    assert html.count("&lt;img") > 10
    assert "<img" not in html


def replace_side(found: Evidence, constitution: Any) -> Evidence:
    other = replace(found, side=replace(found.side, constitution=constitution))
    other.__dict__.update(_tables=found._tables, rows=found.rows)
    return other


def test_a_version_beside_another_is_drawn_only_if_it_was_measured_alike(two: Two) -> None:
    other = beside(two.found)
    assert [o.version for o in other] == [two.first]
    assert basis(other[0]) == basis(two.found)
    assert "RL policy of v1-" in two.html
    changed = evidence_of(two.layout, two.first)
    assert changed.rows is not None
    changed.__dict__["rows"] = changed.rows.with_columns(pl.lit("r1:other").alias("row_key"))
    html = render(two.found, [changed])
    assert "RL policy of v1-" not in html
    assert ("Not drawn, because they were measured with other prompts, another base model, or another judge: "
            f"{two.first}") in html


def test_the_asset_shows_the_answers_and_the_figures_as_numbers(two: Two) -> None:
    project = two.history.project(two.data)
    record = project.records.latest("report", two.second)
    assert {ref.id for ref in record.inputs} == {r.ref.id for r in two.found.side.records.values()}
    assert two.layout.absolute(record.details["page"]) == page_path(two.layout, two.second)
    table = project.records.table(record)
    assert table.equals(figures(two.found))
    shown = report_metadata(two.found)
    assert len(str(shown["headline"].value)) < 1000
    assert "Is it better than the base model?" in str(shown["headline"].value)
    named = numbers(table)
    assert {k: v for k, v in shown.items() if k != "headline"} == named
    won = metric(two, "rl_policy", "harmlessness_win_rate", "red-team")
    assert named["rl_policy_harmlessness_wins"] == won["value"]
    assert {"rl_policy_attack_success", "labels_agree_with_people", "harmlessness_rounds_that_gain",
            "rl_policy_helpfulness_over_sft_baseline"} <= named.keys()
    assert all(isinstance(v, float) for v in named.values())
    assert len(headline(two.found)) <= 950


def test_rounds_are_stored_with_their_keys_and_shown_in_dagster(two: Two) -> None:
    project = two.history.project(two.data)
    record = project.records.latest("round_quality", two.second)
    rows = two.found.side.detail("round_quality", "rows")
    texts = two.found.side.detail("round_quality", "texts")
    assert rows is not None
    assert texts is not None
    asked = rows.drop_nulls("row_key_first").select("row_key_first", "row_key_second").to_dicts()
    stored = project.store.lookup("judge", [k for r in asked for k in r.values()])
    assert len(stored) == len({k for r in asked for k in r.values()}) > 0
    metrics = project.records.table(record)
    shown = round_metadata(Rounds(metrics, rows, texts, record.details["chains"], record.details["of"]),
                           two.found.telling)
    assert len(str(shown["curve"].value)) < 1000
    assert len(str(shown["stops_paying"].value)) < 1000
    assert isinstance(shown["harmlessness_rounds_that_gain"], int)
    assert "too few to tell whether round 1 gains" in two.page.text


def test_a_plan_of_power_rests_on_the_newest_evaluation_and_counts_its_calls(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = two.history.project(two.data)
    record = project.records.latest("evaluation", two.second)
    found = plan_power(project, two.second, 0.3)
    assert found.source == record.ref.id
    assert {line.kind for line in found.lines} == {"red-team", "helpful"}
    assert all(line.measured_on > 1 and line.prompts and line.prompts >= 20 for line in found.lines)
    now = project.settings.prompts
    asked = Judged(4 if two.found.side.constitution.taking_part("evaluation") else 2)
    calls = calls_of(project, {"red-team": now.eval_red_team, "helpful": now.eval_helpful}, asked)
    assert 0.5 * calls < record.generated + record.reused <= calls  # equal answers are judged once
    wins = next(line for line in found.lines if line.measure == "harmless wins")
    assert wins.calls == calls_of(project, {"red-team": wins.prompts or 0, "helpful": now.eval_helpful}, asked)
    finer = next(x for x in plan_power(project, two.second, 0.1).lines if x.measure == "harmless wins")
    assert (finer.prompts or 0) > (wins.prompts or 0)
    monkeypatch.setenv("CAI_DATA_ROOT", str(two.data))
    said = CliRunner().invoke(app, ["plan", two.second, "--power", "0.3"]).output
    assert record.ref.id in said
    assert "-s prompts.eval_red_team=" in said
    assert CliRunner().invoke(app, ["plan", two.second, "--power", "3"]).exit_code == 2


def test_the_page_across_versions(two: Two) -> None:
    every = every_version(two.layout)
    assert [e.version for e in every] == [two.first, two.second] == evaluated(two.layout)
    html = across.render(every)
    assert faults(html) == []
    page = Page(html)
    assert [said for level, said in page.headings if level == 2] == [
        "In short", "Helpfulness and harmlessness", "Over versions", "Ranking", "Principles", "Cost",
        "One version"]
    assert f"{two.second}, of customer-service" in page.text
    assert "1 edited" in page.text
    assert "too few to tell" in page.text
    for version in (two.first, two.second):
        assert f"cai report {version}" in html
        assert f"evaluation/{version}/000001" in html
    assert "RL policy" in page.text
    assert f"cai rank {two.first} {two.second}" in html
    unranked = across.render(every, ranked=False)
    assert faults(unranked) == []
    assert across.page_path(two.layout).read_text(encoding="utf-8") == with_digest(unranked)  # the comparison wrote it
    records = two.history.project(two.data).records
    assert records.latest("comparison", None).number == 2
    assert faults(across.render([])) == []
    apart = evidence_of(two.layout, two.second)
    assert apart.rows is not None
    apart.__dict__["rows"] = apart.rows.with_columns(pl.lit("r1:other").alias("row_key"))
    html = across.render([every[0], apart])
    assert "group 2 of 2" in html
    assert "not comparable" in html


def test_the_command_prints_writes_and_refuses(two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(two.data))

    def run(*arguments: str, code: int = 0) -> str:
        result: Any = CliRunner().invoke(app, ["report", *arguments])
        assert result.exit_code == code, result.output
        return re.sub(r"\s+", " ", str(result.output))

    out = tmp_path / "page.html"
    said = run(two.second, "--out", str(out))
    assert "Is it better than the base model? [too few to tell (detectable with 20: " in said
    assert out.read_text(encoding="utf-8") == with_digest(two.html)
    assert run(two.second, "--open-path").strip() == str(page_path(two.layout, two.second))
    assert "Evaluated versions: 2, oldest first" in run("--all")
    assert run("--all", "--open-path").strip() == str(across.page_path(two.layout))
    assert "name one version, or pass --all" in run(code=2)
    assert "name one version, or pass --all" in run(two.second, "--all", code=2)
    assert "Known:" in run("nonsense", code=2)
    unmade = Snapshots(two.layout).register(two.history.constitution.model_copy(update={"version": "v9"}))
    assert f"cai materialize {unmade}" in run(unmade, code=2)
    with pytest.raises(RecordMissing):
        evidence_of(two.layout, unmade)
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "empty"))
    assert "no constitution version has been evaluated yet" in run("--all", code=2)


def test_metadata_is_what_dagster_takes(two: Two) -> None:
    shown = report_metadata(two.found)
    assert dg.MaterializeResult(asset_key="report", metadata=shown).metadata is not None
    assert json.dumps({k: v for k, v in shown.items() if isinstance(v, float)})
    assert save(two.found, (), two.data / "elsewhere.html").is_file()


def test_what_rests_on_an_earlier_record_is_said_once_for_all() -> None:
    def record(digest: str, *inputs: Any) -> Any:
        return SimpleNamespace(partition="v1", digest=digest, inputs=inputs)

    before, now = (SimpleNamespace(asset="rl_policy", partition="v1", digest=d) for d in ("old", "new"))
    side: Any = SimpleNamespace(name="v1", version="v1", records={
        "rl_policy": record("new"), "evaluation": record("e", before), "suite_results": record("s", before),
        "round_quality": record("r", now)})
    (said,) = older(side)
    assert "newest rl_policy of v1 was not used for: evaluation, suite_results." in said
