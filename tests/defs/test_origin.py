"""Where Dagster finds the code of a run that the command line starts, and a workspace.yaml that does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cai_assets.defs.origin import LOCATION, MODULE, job_origin
from cai_assets.errors import CaiError


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "workspace.yaml"


@pytest.mark.parametrize(("text", "location"), [
    ("load_from: []\n", LOCATION),
    (f"load_from:\n  - python_module: other\n  - python_module: {MODULE}\n", MODULE),
    ("load_from:\n  - python_module: other\n", "other"),
])
def test_ours_else_the_first_else_made(workspace: Path, text: str, location: str) -> None:
    workspace.write_text(text)
    assert job_origin("all").repository_origin.code_location_origin.location_name == location


@pytest.mark.parametrize("text", ["", "a: b\n", "load_from: 3\n", "load_from: [\n", "- x\n",
                                  "load_from:\n  - modul: x\n"])
def test_a_workspace_that_cannot_be_read_is_told_in_one_line(workspace: Path, text: str) -> None:
    workspace.write_text(text)
    with pytest.raises(CaiError, match=r"workspace\.yaml names no code location") as refused:
        job_origin("all")
    assert "\n" not in str(refused.value)
