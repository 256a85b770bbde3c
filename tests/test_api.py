"""What a notebook reads: tables as frames, folders of checkpoints, and what is said of what is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from project_folder import project_of
from typer.testing import CliRunner

import cai_assets
from cai_assets.api import NotThere
from cai_assets.cli import app
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, RecordMissing, Records

CONSTITUTION = 'version: "v1"\nprinciples:\n  - {id: harm, critique: Find harm., revision: Remove harm.}\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = project_of(CONSTITUTION, tmp_path, monkeypatch)
    made = CliRunner().invoke(app, ["materialize", "mild", "--select", "prompts", "--select", "constitution"])
    assert made.exit_code == 0, made.output
    return folder


def test_tables_are_frames_by_version_or_by_the_name_of_a_constitution(project: Path) -> None:
    prompts = cai_assets.load("prompts")
    assert isinstance(prompts, pl.DataFrame)
    assert prompts.height == 48
    (version,) = (p.stem for p in (project / "data" / "constitutions").glob("*.json"))
    for name in ("mild", version):
        principles = cai_assets.load("constitution", name)
        assert principles.select("id", "critique").rows() == [("harm", "Find harm.")]
    with pytest.raises(RecordMissing, match="prompts is not materialized yet"):
        cai_assets.load("prompts", data_root=str(project / "elsewhere"))


def test_what_is_not_there_is_said_with_what_to_use(project: Path) -> None:
    with pytest.raises(NotThere, match="did you mean 'critiques'"):
        cai_assets.load("critique", "mild")
    with pytest.raises(NotThere, match=r"constitution is made for each version: name one\. Materialized: mild-v1-"):
        cai_assets.load("constitution")
    with pytest.raises(NotThere, match=r"cai_assets.checkpoint\('rl_policy', VERSION\) is its folder"):
        cai_assets.load("rl_policy", "mild")
    with pytest.raises(NotThere, match=r"prompts is a table: cai_assets.load\('prompts', VERSION\)"):
        cai_assets.checkpoint("prompts")
    with pytest.raises(RecordMissing, match=r"rl_policy for mild-v1-.* is not materialized yet"):
        cai_assets.checkpoint("rl_policy", "mild")


def test_a_checkpoint_is_a_folder(project: Path) -> None:
    (version,) = (p.stem for p in (project / "data" / "constitutions").glob("*.json"))
    record = Record(asset="rl_policy", partition=version, digest="k1:0", path="checkpoints/rl_policy/0")
    Records(Layout(project / "data")).add(record)
    assert cai_assets.checkpoint("rl_policy", "mild") == (project / "data" / record.path).resolve()


def test_the_package_loads_none_of_it_before() -> None:
    code = ("import sys, cai_assets; assert not {'polars', 'cai_assets.api'} & set(sys.modules); cai_assets.load; "
            "assert 'dagster' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
