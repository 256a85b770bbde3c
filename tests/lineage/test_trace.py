"""Tracing back, against a recomputation from the row tables; and the answer stays what it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_history import MORE_PARTITIONS, VERSIONS_MADE, flipped, gone, made, plain
from typer.testing import CliRunner

from cai_assets.assets import CHECKPOINTS
from cai_assets.cli import app
from cai_assets.lineage.chain import UnknownRow, chain
from cai_assets.lineage.principles import ALL_AT_ONCE
from cai_assets.lineage.targets import UnknownTarget, every_record, find_record
from cai_assets.lineage.trace import LineageBroken, row_chain, to_json, trace, trace_record
from cai_assets.store.layout import Layout
from cai_assets.versions.rounds import round_of


def test_every_checkpoint_traces_to_exactly_the_rows_of_the_tables() -> None:
    layout = made().layout
    records = list(every_record(layout, CHECKPOINTS))
    assert len({round_of(r.partition).version for r in records if r.partition}) == VERSIONS_MADE
    assert len(records) > 50
    for record in records:
        traced, walked = trace_record(layout, record), plain(record.ref.id)
        assert traced.lineage.problems == ()
        assert set(traced.lineage.records) == set(walked.records)
        rows = traced.rows()
        assert sorted(rows["row_id"]) == sorted(walked.rows()), record.ref.id
        for name, ids in walked.trained.items():
            used = rows.explode("trained_in").filter(trained_in=name)["row_id"].to_list()
            held = rows.explode("held_out_in").filter(held_out_in=name)["row_id"].to_list()
            assert sorted([*used, *held]) == sorted(ids), (record.ref.id, name)


def test_every_principle_table_equals_one_counted_by_hand() -> None:
    for record in every_record(made().layout, CHECKPOINTS):
        found, counted = trace_record(made().layout, record).lineage.influence, plain(record.ref.id)
        assert found is not None
        expected, total = counted.principles(), counted.totals
        assert {p.id for p in found.principles} >= expected.keys()
        if record.asset != "sft_baseline" and total["rows"]:  # pairs of revisions are of no trained policy
            assert found.measure == "completion tokens"
            assert any(p.rows for p in found.principles)
        for p in found.principles:
            here = expected.get(p.id, {})
            for what in ("rows", "chain_rows", "labels", "graded"):
                assert getattr(p, what) == len(here.get(what, ())), (record.ref.id, p.id, what)
            assert p.row_share == pytest.approx(p.rows / max(1, total["rows"]), abs=1e-6)
            assert p.text_share == pytest.approx(sum(here.get("text", ())) / max(1, total["text"]), abs=1e-6)
            assert p.label_share == pytest.approx(p.labels / max(1, total["labels"]), abs=1e-6)
            assert p.graded_share == pytest.approx(p.graded / max(1, total["graded"]), abs=1e-6)
            if p.labels:
                assert p.mean_strength == pytest.approx(sum(here["labels"]) / p.labels, abs=1e-6)
    seen = [p for r in every_record(made().layout, ("rl_policy",)) for p in plain(r.ref.id).principles().items()]
    assert any(name == ALL_AT_ONCE for name, _ in seen)
    assert sum(len(here["graded"]) > 0 for _, here in seen) > 3


def test_the_rl_policy_has_both_halves_and_its_rounds() -> None:
    last = made().versions[-1]
    lineage = trace(made().layout, f"rl_policy@{last}").lineage
    assert last.endswith("-r3")
    assert sum(r.asset == "rl_policy" for r in lineage.records.values()) == 3
    assert list(lineage.constitutions) == [last.removesuffix("-r3")]
    assert lineage.influence is not None
    assert any(p.labels for p in lineage.influence.principles)
    assert {g.kind for g in lineage.influence.prompts} == {"red-team", "helpful"}
    assert lineage.total("seconds") > 0


def test_an_old_checkpoint_traces_as_on_the_day_it_was_made() -> None:
    said = made().said
    assert len(set(made().partitions)) > MORE_PARTITIONS
    assert len(made().partitions) > len(set(made().partitions))  # one was made again
    for record in every_record(made().layout, CHECKPOINTS):
        assert to_json(trace_record(made().layout, record).lineage) == said[record.ref.id]
        assert to_json(trace(made().layout, record.digest).lineage) == said[record.digest]


def test_a_checkpoint_carries_what_its_record_says() -> None:
    for record in every_record(made().layout, CHECKPOINTS):
        if record.details["reused_checkpoint"]:
            continue
        carried, known = trace(made().layout, record.digest), trace_record(made().layout, record)
        own, theirs = carried.lineage, known.lineage
        assert own.top.inputs == record.inputs
        assert {k: v for k, v in own.records.items() if k != own.root} == {
            k: v for k, v in theirs.records.items() if k != theirs.root}
        assert own.influence is not None
        assert theirs.influence is not None
        assert own.influence.principles == theirs.influence.principles
        assert own.influence.prompts == theirs.influence.prompts
        assert set(carried.rows()["row_id"]) == set(known.rows()["row_id"])


def test_a_reused_checkpoint_keeps_the_lineage_of_its_first_day() -> None:
    reused = [r for r in every_record(made().layout, CHECKPOINTS) if r.details["reused_checkpoint"]]
    assert reused
    for record in reused:
        first = trace(made().layout, record.digest).lineage.top
        assert first.created < record.created
        assert first.digest == record.digest


def test_a_copied_folder_traces_where_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = find_record(made().layout, f"rl_policy@{made().versions[-1]}")
    there = shutil.copytree(made().layout.absolute(record.path), tmp_path / "copied")
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "nothing"))
    result = CliRunner().invoke(app, ["trace", str(there), "--json"])
    assert result.exit_code == 0, result.output
    assert result.output.rstrip() == made().said[record.digest]
    listed = CliRunner().invoke(app, ["trace", str(there), "--rows", "--json"]).output
    rows = [json.loads(line) for line in listed.splitlines()]
    assert {r["row_id"] for r in rows} == plain(record.ref.id).rows()
    prompt = next(r["prompt_id"] for r in rows if r["asset"] == "revisions")
    shown = CliRunner().invoke(app, ["trace", str(there), "--row", prompt]).output
    assert "revisions round 3" in shown
    assert "trained in" in shown
    assert not (tmp_path / "nothing").exists()
    with flipped(there / "lineage_rows.parquet"), pytest.raises(LineageBroken, match=r"lineage_rows\.parquet"):
        trace(Layout(tmp_path / "nothing"), str(there))
    with gone(there / "lineage.json"), pytest.raises(LineageBroken, match=r"lineage\.json is missing"):
        trace(Layout(tmp_path / "nothing"), str(there))


def test_a_copied_folder_traces_in_a_process_that_has_nothing_else(tmp_path: Path) -> None:
    record = find_record(made().layout, f"rl_policy@{made().versions[3]}")
    there = shutil.copytree(made().layout.absolute(record.path), tmp_path / "elsewhere" / "checkpoint")
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-m", "cai_assets.cli", "trace", str(there), "--json"], cwd=home,
                          env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == made().said[record.digest]
    assert list(home.iterdir()) == []


def test_the_chain_of_a_row_leads_from_prompt_to_training() -> None:
    traced = trace(made().layout, f"sl_policy@{made().versions[0]}")
    rows = traced.rows()
    last = rows.filter(asset="revisions", round=3).head(1)
    links = chain(rows, last["row_id"].item())
    assert links["asset"].to_list() == ["prompts", "initial_responses", *["critiques", "revisions"] * 3]
    assert links["row_id"].to_list()[-1] == last["row_id"].item()
    assert links["principle_ids"].list.len().to_list()[2:] == [1] * 6
    assert chain(rows, last["row_keys"].item()[0][:20])["row_id"].to_list() == links["row_id"].to_list()
    everywhere = row_chain(made().layout, last["row_id"].item())
    assert set(links["row_id"]) <= set(everywhere["row_id"])
    assert any(name.startswith("sl_policy/") for name in everywhere.explode("trained_in")["trained_in"].drop_nulls())
    with pytest.raises(UnknownRow, match="row id"):
        row_chain(made().layout, "i1:nothing")


def test_a_missing_table_is_named_and_no_share_is_given() -> None:
    version = made().versions[2]
    table = made().layout.absolute(find_record(made().layout, f"revisions@{version}").path)
    with gone(table):
        lineage = trace(made().layout, f"sl_policy@{version}").lineage
    assert lineage.influence is None
    assert any(str(table) in p and "materialize revisions" in p for p in lineage.problems)


def test_an_unknown_target_says_what_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    version = made().versions[0]
    with pytest.raises(UnknownTarget, match=f"Did you mean sl_policy@{version}"):
        trace(made().layout, f"sl_polcy@{version}")
    monkeypatch.setenv("CAI_DATA_ROOT", str(made().data))
    result = CliRunner().invoke(app, ["trace", "nonsense"])
    assert result.exit_code == 2
    assert "cannot trace 'nonsense'" in result.output
    assert not (made().data / "records" / "nonsense").exists()


def test_the_terminal_shows_tree_principles_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(made().data))
    monkeypatch.setenv("CAI_PRICE_PER_GPU_HOUR", "2")
    shown = CliRunner().invoke(app, ["trace", f"rl_policy@{made().versions[0]}"]).output
    for part in ("preference_pairs/", "hand-over", "completion tokens", "GPU-seconds", "USD", "packages:"):
        assert part in shown
