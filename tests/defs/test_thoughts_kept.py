"""A whole graph with a model that thinks: answers alone are critiqued, labeled, judged and trained on."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from histories import History

from cai_assets.defs.checks.suites import trace_validity
from cai_assets.engines import scripted
from cai_assets.engines.protocol import Call, Request
from cai_assets.plan.plan import make_plan
from cai_assets.store.row_store import list_shards, read_shard
from cai_assets.store.upkeep import steps

SECRET = "hidden deliberation"
PLAIN = scripted.default_reply


def thinking(call: Call, request: Request) -> str:
    """Sentences after a thought; some thoughts are empty, come twice, or do not end: by the prompt, since how many
    pairs are left to label must not depend on the draw of the seeds."""
    kind = zlib.crc32(call.messages[0]["content"].encode()) % 8
    answer = PLAIN(call, request)
    if kind == 0:
        return f"<think>\n{SECRET}"
    thought = "" if kind == 1 else SECRET
    return f"<think>\n{thought}\n</think>\n\n{answer}" + (f"<think>{SECRET}</think>" if kind == 2 else "")


def payloads(history: History) -> list[str]:
    layout = history.project(history.root).layout
    return [p for step in steps(layout) for shard in list_shards(layout.folder("rows", step))
            for p in read_shard(shard, ["payload"])["payload"].to_list()]


@pytest.mark.parametrize("mode", ["keep", pytest.param("off", marks=pytest.mark.long)])
def test_no_thought_is_in_any_prompt_or_answer(
    history: History, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "default_reply", thinking)
    history.settings["accept_loss"] = 0.9
    history.settings["models"]["generator"]["thinking"] = mode
    success, version = history.run(history.root)
    assert success
    assert len(payloads(history)) > 50
    assert not any(SECRET in p for p in payloads(history))
    project: Any = history.project(history.root)
    responses = project.records.table(project.records.latest("initial_responses", None))
    assert not responses["response"].drop_nulls().str.contains(SECRET).any()
    assert ("thought" in responses.columns) is (mode == "keep")
    rows = project.records.table(project.records.latest("sl_dataset", version))
    assert not rows["response"].str.contains(SECRET).any()
    if mode == "keep":
        assert set(responses["thought_state"].drop_nulls()) <= {"valid", "empty", "repeated", "unclosed"}
        assert rows["thought"].drop_nulls().str.contains(SECRET).any()
        suites = project.records.latest("suite_results", version)
        passed, why, numbers = trace_validity(project, suites, version)
        assert (passed, set(numbers)) == (True, {"base", "base_again"}), "the scripted checkpoints keep no thoughts"
        assert "of thoughts valid" in why
        unclosed = responses.filter(responses["thought_state"] == "unclosed")
        assert unclosed["response"].null_count() == unclosed.height


@pytest.mark.long
def test_reasons_are_planned_generated_once_and_reused(history: History, capfd: pytest.CaptureFixture[str]) -> None:
    """A run stays within its plan, and a second one asks for nothing."""
    history.run(history.root)
    history.settings["supervised"] = {"thoughts": "reasons"}
    project: Any = history.project(history.root)
    version = project.snapshots.register(history.constitution)
    line = make_plan(project, version).line("revisions")
    revised = project.records.table(project.records.latest("revisions", version))["revision"].drop_nulls().len()
    assert (line.generate_min, line.generate_max) == (revised, revised)
    assert any("supervised.thoughts: mask -> reasons" in cause for cause in line.causes)
    success, _ = history.run(history.root)
    assert success
    assert "the policy keeps no thoughts" in capfd.readouterr().err
    record = project.records.latest("revisions", version)
    assert record.generated == revised
    rows = project.records.table(project.records.latest("sl_dataset", version))
    assert rows.filter(rows["round"] > 0)["thought"].str.starts_with("By the principle ").all()
    assert make_plan(project, version).line("revisions").generate_max == 0
