"""What a command imports: nothing that it does not use. Lists of modules, not seconds: those are of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from imported import AT_EXIT, MODELS, STATISTICS
from project_folder import project_of
from tiny_models import tiny_model

from cai_assets.cli.verbs import GROUPS, loaded

CONSTITUTION = """version: "v1"
principles:
  - {id: harm, critique: Find harm., revision: Remove harm., preference: Which is better?}
"""
DATA = {"polars", "pyarrow", "numpy", "yaml"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}  # a plan identifies it
    folder = project_of(CONSTITUTION, tmp_path, monkeypatch)
    monkeypatch.setenv("CAI_MODELS__GENERATOR", json.dumps(model))
    return folder


def modules(*arguments: str, before: str = "", **environment: str) -> set[str]:
    """What a process of ``cai`` has imported when it ends; ``before``: code that it runs first."""
    done = subprocess.run([sys.executable, "-c", before + AT_EXIT, *arguments], capture_output=True, text=True,
                          check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ()])
def test_help_imports_no_verb(arguments: tuple[str, ...]) -> None:
    ours = {name for name in modules(*arguments) if name.startswith("cai_assets.")}
    assert {name for name in ours if name.startswith("cai_assets.cli.")} == {
        "cai_assets.cli.common", "cai_assets.cli.complete", "cai_assets.cli.verbs"}
    assert not ours & {"cai_assets.settings", "cai_assets.pipeline", "cai_assets.defs", "cai_assets.constitution.model"}


def test_help_and_the_completion_of_verbs_import_no_library_of_data() -> None:
    assert not modules("--help") & (DATA | MODELS | STATISTICS | {"dagster"})
    completing = modules(_CAI_COMPLETE="complete_bash", COMP_WORDS="cai ma", COMP_CWORD="1")
    assert not completing & (DATA | MODELS | STATISTICS | {"dagster"})


def test_what_help_says_of_a_verb_is_what_the_verb_says() -> None:
    from cai_assets.cli.verbs import _docstring

    commands = loaded().commands
    listed = {verb: _docstring(verb) for verbs in GROUPS.values() for verb in verbs}
    assert {verb: text.split("\n\n")[0] for verb, text in listed.items()} == {
        verb: (commands[verb].help or "").split("\n\n")[0].strip() for verb in listed}


def test_the_code_of_all_verbs_imports_neither_dagster_nor_a_model_library() -> None:
    code = "import sys; from cai_assets.cli.verbs import loaded; loaded(); print('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & (MODELS | STATISTICS | {"dagster", "huggingface_hub"})


@pytest.mark.parametrize("arguments", [("lint",), ("plan", "mild"), ("trace", "constitution@{version}")])
def test_without_a_run_dagster_and_the_statistics_stay_out(project: Path, arguments: tuple[str, ...]) -> None:
    modules("plan", "mild")  # which registers
    (version,) = (path.stem for path in (project / "data" / "constitutions").glob("*.json"))
    if arguments[0] == "trace":
        modules("materialize", "mild", "--select", "constitution")
    imported = modules(*(text.format(version=version) for text in arguments))
    assert not imported & (MODELS | STATISTICS | {"dagster"})


def test_status_leaves_dagster_out_once_there_is_a_home(project: Path) -> None:
    first = modules("status")
    assert "dagster" in first
    assert not first & (MODELS | STATISTICS | {"cai_assets.definitions", "cai_assets.defs.jobs"})
    assert not modules("status") & (MODELS | STATISTICS | {"dagster", "sqlalchemy"})


def test_a_version_that_was_planned_alone_is_there_for_dagster_when_it_runs(project: Path) -> None:
    modules("plan", "mild")
    assert not (project / "home" / "history").exists()
    assert "dagster" in modules("materialize", "mild", "--select", "constitution")


@pytest.mark.long
def test_a_run_with_nothing_to_do_imports_no_library_of_models_or_of_statistics(project: Path) -> None:
    copies = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent / folder) for folder in ("defs", "")]!r}
from histories import copy_instead_of_training
from cai_assets.defs import launch
launch._run = copy_instead_of_training
"""
    prompts = {"CAI_PROMPTS": '{"red_team": 4, "helpful": 2, "eval_red_team": 1, "eval_helpful": 1}'}
    modules("materialize", "mild", before=copies, **prompts)
    assert not modules("materialize", "mild", "--again", **prompts) & MODELS
    assert not modules("materialize", "mild", **prompts) & (MODELS | STATISTICS | {"dagster"})
