"""Nothing to do is seen without a run, and whatever has changed is seen."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from string import ascii_lowercase as LETTERS
from typing import Any

import pytest
from imported import MODELS, STATISTICS
from project_folder import project_of
from test_startup import modules
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app, unchanged
from cai_assets.cli.run import Made
from cai_assets.defs import execute
from cai_assets.defs.home import open_instance
from cai_assets.reports.summary import Line
from cai_assets.settings import load_settings
from cai_assets.store.layout import Layout

CONSTITUTION = 'version: "v1"\nprinciples:\n  - {id: harm, critique: Find harm., revision: Remove harm.}\n'
SELECTED = ("prompts", "initial_responses")
ASKED = ["materialize", "mild", *(word for name in SELECTED for word in ("--select", name))]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = project_of(CONSTITUTION, tmp_path, monkeypatch)
    rng = random.Random(0)
    prompts = [{"id": f"{kind}{i}", "prompt": "How do I " + " ".join(rng.choices(LETTERS, k=40)), "kind": kind}
               for kind in ("red-team", "helpful") for i in range(8)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    model = {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}
    monkeypatch.setenv("CAI_MODELS__GENERATOR", json.dumps(model))
    monkeypatch.setenv("CAI_PROMPTS", json.dumps({"paths": [str(folder / "prompts.jsonl")], "red_team": 4, "helpful": 4,
                                                  "eval_red_team": 2, "eval_helpful": 2}))
    return folder


def made(*more: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*ASKED, "--json", *more])
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def records(project: Path) -> int:
    return sum(1 for _ in (project / "data" / "records").rglob("*.json"))


def test_what_is_made_is_told_again_as_reused_and_no_run_begins(project: Path) -> None:
    first = made()
    before = records(project)
    again = made()
    assert (first["unchanged"], again["unchanged"]) == (False, True)
    assert (first["rows_generated"], again["rows_generated"], again["tokens_generated"]) == (12, 0, 0)
    assert [(a["asset"], a["reused"]) for a in again["assets"]] == [("prompts", 0), ("initial_responses", 12)]
    assert (again["run_id"], again["checks"], again["failed_checks"]) == (
        first["run_id"], first["checks"], first["failed_checks"])
    said = CliRunner().invoke(app, ASKED).output
    assert f"nothing to do. Nothing that it is made from has changed since run {first['run_id'][:8]} made it" in said
    assert records(project) == before
    modules(*ASKED)  # a process whose sys.path may be another, for which that is a change
    assert not modules(*ASKED) & (MODELS | STATISTICS | {"dagster"})
    assert not made("--again")["unchanged"]
    assert records(project) > before


def _prompts(project: Path) -> None:
    """Another text of the same length, with the file's old date."""
    file = project / "prompts.jsonl"
    date = file.stat().st_mtime_ns
    file.write_text(file.read_text().replace("How do I", "How do U"))
    os.utime(file, ns=(date, date))


def _table(project: Path) -> None:
    file = next((project / "data" / "tables" / "prompts").glob("*.parquet"))
    file.write_bytes(file.read_bytes())


def _shard(project: Path) -> None:
    next((project / "data" / "rows").rglob("*.parquet")).unlink()


def _wiped(project: Path) -> None:
    import dagster as dg

    with open_instance() as instance:
        instance.wipe_assets([dg.AssetKey("prompts")])


def _home(project: Path) -> None:
    (project / "home" / "history").rename(project / "home" / "old")


def _other_version(project: Path) -> None:
    file = project / "constitutions" / "mild.yaml"
    text = file.read_text()
    file.write_text(text.replace("Find harm", "Find all harm"))
    CliRunner().invoke(app, ["materialize", "mild", "--select", "constitution"])
    file.write_text(text)


def _tests_of_the_constitution(project: Path) -> None:
    (project / "constitutions" / "mild.tests.yaml").write_text("tests: []\n")


def _comparison(project: Path) -> None:
    (project / "data" / "human-comparisons.json").write_text("[]")


def _weights(project: Path) -> None:
    file = project / "tiny" / "config.json"
    file.write_text(file.read_text() + "\n")


CHANGES = (_prompts, _table, _shard, _wiped, _home, _other_version, _tests_of_the_constitution, _comparison, _weights)


def test_a_change_of_anything_is_a_run(project: Path) -> None:
    made()
    for change in CHANGES:
        change(project)
        assert not made()["unchanged"], change
        assert made()["unchanged"], change


def test_a_setting_is_a_run_and_taken_back_another(project: Path) -> None:
    made()
    assert not made("-s", "generation.max_tokens=7")["unchanged"]
    assert not made()["unchanged"], "the newest records are of the other setting"


def test_what_changes_while_a_run_reads_is_seen_by_the_next(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = execute.materialize

    def disturbed(*arguments: Any, **named: Any) -> Any:
        result = run(*arguments, **named)
        _prompts(project)
        return result

    monkeypatch.setattr(execute, "materialize", disturbed)
    made()
    monkeypatch.setattr(execute, "materialize", run)
    assert not made()["unchanged"]


@pytest.mark.parametrize(("yaml", "setting"), [
    ("event_log_storage: {}", {}), ("storage: {postgres: {}}", {}),
    ("", {"evaluation": {"others": {"other": {"source": "~nobody-here/model"}}}})])
def test_what_cannot_be_seen_is_not_taken_for_unchanged(yaml: str, setting: dict[str, Any], project: Path) -> None:
    (project / "home" / "dagster.yaml").write_text(yaml)
    assert unchanged.state_of(load_settings(setting), Layout(project / "data")) is None


def test_rows_that_failed_are_asked_again(project: Path) -> None:
    layout, now = Layout(project / "data"), unchanged.State("a", "b", frozenset())
    for failed in (1, 0):
        line = Line("prompts", 2, 0, 1, failed, 0, 0.0, "table", "")
        unchanged.keep(layout, (), Made("mild-v1", "run", 1.0, [line], 0, [], None), now, now)
        assert [*layout.folder("work", "unchanged").iterdir()] == ([] if failed else [unchanged._file(
            layout, "mild-v1", ())])


@pytest.mark.parametrize(("model", "moves"), [
    ({"source": "org/model"}, True), ({"source": "org/model", "revision": "main"}, True),
    ({"source": "org/model", "revision": "0123456789" * 4}, False), ({}, False),
    ({"source": "m", "base_urls": ["http://127.0.0.1:8000/v1"]}, False),
    ({"source": "m", "base_urls": ["http://127.0.0.1:8000/v1"], "tokenizer": "org/model"}, True)])
def test_a_model_of_the_hub_may_be_another_tomorrow(model: dict[str, Any], moves: bool) -> None:
    dumped = load_settings({"evaluation": {"others": {"other": model}}} if model else {}).model_dump(mode="json")
    assert any(map(unchanged._may_move, unchanged._models(dumped))) == moves


def test_in_an_object_store_too(project: Path, objects_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", objects_url)
    made()
    assert made()["unchanged"]
    storage = Layout(objects_url).storage
    table = storage.list("tables/prompts")[0].name
    storage.put(table, storage.get(table))
    assert made()["unchanged"], "an object with the same bytes has the same tag"
    storage.put(table, b"")
    assert "cannot be read back" in CliRunner().invoke(app, ASKED).output, "a run began"
