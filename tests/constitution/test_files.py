"""``.yml`` is read like ``.yaml`` wherever files are looked for, hidden files are not, and no file is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.cases import cases_path
from cai_assets.constitution.files import constitution_file, constitution_files
from cai_assets.evals.suites.registry import suite_files
from cai_assets.versions.snapshots import scan

MILD = 'version: "v1"\nprinciples:\n  - id: harm\n    preference: Which is milder?\n'
TESTS = "cases:\n  - {id: a, principle: harm, prompt: Hello?, good: Hello., bad: Go away.}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "constitutions").mkdir()
    return tmp_path / "constitutions"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_both_endings_are_read_and_hidden_files_are_not(folder: Path) -> None:
    (folder / "mild.yml").write_text(MILD)
    (folder / "mild.tests.yml").write_text(TESTS)
    (folder / "strict.yaml").write_text(MILD)
    (folder / ".hidden.yaml").write_text("nonsense")
    (folder / ".hidden.yml").write_text("nonsense")
    assert [p.name for p in constitution_files(folder)] == ["mild.yml", "strict.yaml"]
    assert constitution_file(folder, "mild") == folder / "mild.yml"
    assert constitution_file(folder, "new") == folder / "new.yaml"
    assert cases_path(folder, "mild") == folder / "mild.tests.yml"
    assert [c.name for c in scan(folder)[0]] == ["mild", "strict"]
    text = run("lint")
    assert "mild.yml: 1 principles, 1 test" in text
    assert "strict.yaml: 1 principles" in text
    assert "new mild-v1-" in run("register")
    assert "mild" in run("diff", "mild", "strict")


def test_two_files_of_one_name_are_an_error(folder: Path) -> None:
    (folder / "mild.yml").write_text(MILD)
    (folder / "mild.yaml").write_text(MILD)
    assert "both are called 'mild': remove one" in run("lint", code=1)
    assert "both are called 'mild': remove one" in run("register", code=1)


def test_lint_of_nothing_is_an_error(folder: Path) -> None:
    assert "no constitution files (*.yaml, *.yml)" in run("lint", code=2)
    assert "no constitution files (*.yaml, *.yml)" in run("lint", str(folder), code=2)
    assert "cannot be read" in run("lint", str(folder / "none.yaml"), code=1)
    (folder / "mild.yml").write_text(MILD)
    assert "mild.yml: 1 principles" in run("lint", str(folder))


def test_suites_are_read_with_both_endings(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yml", ".three.yml"):
        (tmp_path / name).touch()
    assert {"one", "two"} <= suite_files(tmp_path).keys()
    assert ".three" not in suite_files(tmp_path)
