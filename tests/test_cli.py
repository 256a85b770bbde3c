"""The commands that run no model: what they print, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project_folder import project_of
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records

CONSTITUTION = 'version: "v1"\nprinciples:\n  - id: harm\n    critique: {0}\n    revision: Remove harm.\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return project_of(CONSTITUTION.format("Identify harm."), tmp_path, monkeypatch)


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def versions(project: Path) -> list[str]:
    return sorted(p.stem for p in (project / "data" / "constitutions").glob("*.json"))


def test_register_diff_and_archive(project: Path) -> None:
    assert "new mild-v1-" in run("register")
    assert "known mild-v1-" in run("register")
    (first,) = versions(project)
    (project / "constitutions" / "mild.yaml").write_text(CONSTITUTION.format("Identify all harm."))
    run("register")
    (second,) = set(versions(project)) - {first}
    text = run("diff", first, second)
    assert "edited harm" in text
    assert "all" in text
    assert json.loads(CliRunner().invoke(app, ["diff", first, second, "--json"]).output)
    assert "is archived" in run("archive", first)
    assert "already" in run("archive", first)
    assert "is in use" in run("restore", first)
    assert "Known" in run("archive", "nonsense", code=2)
    assert versions(project) == sorted([first, second])


def test_a_round_needs_the_policy_of_the_one_before(project: Path) -> None:
    """This constitution has requests for critiques alone: its last policy is the supervised one."""
    run("register")
    (version,) = versions(project)
    assert f"sl_policy for {version} is not materialized yet" in run("round", version, code=2)
    assert "Known" in run("round", "nonsense", code=2)
    records = Records(Layout(project / "data"))
    records.add(Record(asset="sl_policy", partition=version, digest="k1:0", path="checkpoints/sl_policy/0"))
    assert f"cai materialize {version}-r2" in run("round", version)
    assert f"sl_policy for {version}-r2" in run("round", f"{version}-r2", code=2)


def test_a_broken_file_is_named_with_its_line(project: Path) -> None:
    (project / "constitutions" / "bad.yaml").write_text('version: "v1"\nprinciples:\n  - id: a\n    critque: x\n')
    text = run("lint", code=1)
    assert "bad.yaml:4:5" in text
    assert "critique" in text
    assert "mild.yaml" in text


def test_settings_are_a_file_and_an_unknown_one_is_an_error(project: Path) -> None:
    assert "beta: 0.25" in run("settings", "--set", "rl.beta=0.25")
    assert "rl.betta: no such setting" in run("settings", "--set", "rl.betta=1", code=2)
    assert "NAME=VALUE" in run("settings", "--set", "nonsense", code=2)


def test_an_unknown_version_is_refused_with_what_is_known(project: Path) -> None:
    assert "Known" in run("materialize", "nonsense", code=2)
    assert "Known" in run("plan", "nonsense", code=2)


def test_an_empty_store_has_nothing_to_do(project: Path) -> None:
    assert "every row reads back" in run("store", "verify")
    assert "0 items" in run("store", "gc")
    run("store", "stats")
    run("store", "compact")
