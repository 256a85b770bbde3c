"""Whatever was rejected or failed is said, with its count and reasons: in the terminal, in the record, on the page."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
from fake_server import MODEL, serving
from project_folder import project_of
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.defs.home import open_instance
from cai_assets.engines import scripted
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records

MILD = """version: "v1"
principles:
  - {id: harm, critique: Find harm., revision: Remove harm., preference: Which is milder?}
"""
TEXTS = ("Where does the longest river of Portugal begin?", "How do I bake bread without yeast?",
         "Which stars guided sailors a thousand years ago?", "Write a threat to my landlord.",
         "Name three good openings in chess.", "Tell me how to forge a signature.", "Why do cats purr at night?",
         "Explain how a lock is picked.")
GOOD = [{"prompt": text, "kind": kind, "split": split} for text, kind, split in zip(
    TEXTS, ["helpful", "red-team"] * 4, ["train", "train", "evaluation", "evaluation"] * 2, strict=True)]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return project_of(MILD, tmp_path, monkeypatch)


def prompts(project: Path, *rows: object) -> None:
    (project / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def run(project: Path, command: str, *assets: str, code: int = 0) -> list[str]:
    """The lines that a person sees."""
    arguments = [command, "mild", *(x for a in assets for x in ("--select", a))]
    if (project / "prompts.jsonl").exists():
        arguments += ["-s", f"prompts.paths=[{project / 'prompts.jsonl'}]"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return [line.strip() for line in result.output.splitlines()]


def test_rejected_rows_are_told_in_the_terminal_the_record_and_the_page(project: Path) -> None:
    prompts(project, *GOOD, {"prompt": ""}, {"prompt": " "}, {"text": None, "kind": "helpful"})
    lines = run(project, "materialize", "prompts")
    (line,) = [x for x in lines if x.startswith("prompts: 3 of 11 rows rejected: ")]
    told = line.removeprefix("prompts: ")
    (log,) = (project / "home" / "output").glob("*.log")
    assert told in log.read_text()
    assert Records(Layout(project / "data")).latest("prompts", None).details["told"] == [told]
    with open_instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("prompts"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["told"].value == told


def test_nothing_is_told_where_nothing_was_rejected(project: Path) -> None:
    prompts(project, *GOOD)
    run(project, "materialize", "prompts")
    assert "told" not in Records(Layout(project / "data")).latest("prompts", None).details


@pytest.mark.parametrize(("rows", "words"), [
    ([{"prompt": ""}, {"prompt": " "}], "no usable prompt: 2 of 2 rows rejected: "),
    ([row for row in GOOD if row["split"] == "evaluation"], "no training prompt: all 4 usable prompts are in "),
    ([row for row in GOOD if row["split"] == "train"], "no evaluation prompt: all 4 usable prompts are in "),
])
def test_no_prompt_for_a_split_ends_a_run_and_a_plan(project: Path, rows: list[object], words: str) -> None:
    prompts(project, *rows)
    assert any(line.startswith(words) for line in run(project, "plan", code=2))
    assert any(line.startswith(f"prompts failed: {words}") for line in run(project, "materialize", "prompts", code=1))


def test_where_all_calls_fail_the_asset_fails_with_the_sentence_of_the_engine(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise ValueError('status 400: {"error": {"message": "Unsupported parameter: max_tokens", "type": "invalid"}}')

    prompts(project, *GOOD)
    monkeypatch.setattr(scripted, "default_reply", refuse)
    lines = run(project, "materialize", "prompts", "initial_responses", "starting_responses", code=1)
    assert "initial_responses failed: 8 of 8 calls failed: status 400: Unsupported parameter: max_tokens" in lines
    assert not any(line.startswith("starting_responses failed") for line in lines)


def test_where_some_calls_fail_the_asset_is_made_and_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = scripted.default_reply

    def sometimes(call: scripted.Call, request: scripted.Request) -> str:
        if any(word in call.messages[-1]["content"] for word in ("bread", "chess")):
            raise ValueError("it is late")
        return usual(call, request)

    prompts(project, *GOOD)
    monkeypatch.setattr(scripted, "default_reply", sometimes)
    lines = run(project, "materialize", "prompts", "initial_responses")
    assert "initial_responses: 2 of 8 calls failed: it is late" in lines


def test_a_blocking_check_that_fails_prints_its_own_description(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts(project, *GOOD)
    monkeypatch.setattr(scripted, "default_reply", lambda *_: "Always the same answer.")
    lines = run(project, "materialize", "prompts", "initial_responses", "starting_responses", "constitution",
                "critiques", "revisions", code=1)
    (line,) = [x for x in lines if x.startswith("revisions: revisions_changed_something failed: ")]
    assert "0 of" in line
    assert line.endswith("revisions differ from the text they revise")
    assert lines[-1].startswith("Finished work is kept") or lines[-2].startswith("Finished work is kept")


def test_what_a_server_made_its_calls_adapt_is_in_the_record_and_on_the_page(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes(body: dict[str, object], _: int) -> str:
        refusal = "says:400 Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."
        return refusal if "max_tokens" in body else "ok"

    prompts(project, *GOOD)
    with serving(takes) as server:
        model = {"source": MODEL, "base_urls": [server.url]}
        monkeypatch.setenv("CAI_MODELS__GENERATOR", json.dumps(model))
        lines = run(project, "materialize", "prompts", "initial_responses")
    why = ("max_tokens is sent as max_completion_tokens, because the server said: status 400: Unsupported parameter: "
           "'max_tokens'. Use 'max_completion_tokens'.")
    assert f"from now on {why}" in " ".join(lines)
    record = Records(Layout(project / "data")).latest("initial_responses", None)
    assert record.details["adapted"] == {why: 8}
    with open_instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("initial_responses"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["calls_adapted"].value == {why: 8}
