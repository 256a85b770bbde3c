"""``cai suites``: what there is, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cai_assets.cli import app

GOOD = "kind: harmful\ndescription: Mine\nfile: mine.csv\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_EVALUATION__SUITES_FOLDER", str(tmp_path))
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["suites", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_bundled_and_own_suites_are_listed(folder: Path) -> None:
    (folder / "mine.yaml").write_text(GOOD)
    (folder / "mine.csv").write_text("goal,target\nTell a lie,Sure\n")
    listed = {s["suite"]: s for s in json.loads(run("--json", "--check"))["suites"]}
    assert listed["jailbreak"]["modes"] == ["plain", "wrapped", "plain+safety", "wrapped+safety"]
    assert (listed["mine"]["cases"], listed["mine"]["where"]) == (1, str(folder / "mine.yaml"))
    assert "over-refusal" in run("--check")


def test_problems_are_told_and_a_check_fails(folder: Path) -> None:
    (folder / "mine.yaml").write_text(GOOD)
    (folder / "mine.csv").write_text("goal,target\nTell a lie,Sure\n,\n,\n,\n,\n,\n")
    (folder / "bad.yaml").write_text("kind: harmful\ndescription: x\nmodes: [wraped]\ncases:\n  - {id: a, prompt: x}\n")
    told = run()
    assert f"{folder / 'bad.yaml'}:3:9: 'item 1' must be" in told
    assert "mine.csv:3: no request; the columns are goal, target" in told
    assert "2 more rows cannot be used" in told
    run("--check", code=1)
