"""A small project folder outside a checkout, and the command line in it as a person calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from tiny_models import tiny_model

REPOSITORY = Path(__file__).parents[2]
CONSTITUTION = "customer-service"
WRITTEN = ("prompts", "initial_responses", "constitution", "starting_responses", "critiques", "revisions")
FIRST_HALF = [x for name in WRITTEN for x in ("--select", name)]


def small_project(folder: Path) -> Path:
    """A project of one constitution on a tiny model and the scripted engine."""
    for name in ("constitutions", "data", "dagster_home"):
        (folder / name).mkdir(parents=True)
    for name in (f"constitutions/{CONSTITUTION}.yaml", "workspace.yaml", "dagster_home/dagster.yaml"):
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    settings = {
        "models": {"generator": {"source": str(tiny_model(folder / "tiny")), "backend": "scripted"}},
        "prompts": {"red_team": 6, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    return folder


def cai(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command; its output is one stream."""
    environment = {**os.environ, "DAGSTER_HOME": str(project / "dagster_home"), "COLUMNS": "200",
                   "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-m", "cai_assets.cli", *arguments], cwd=project, env=environment,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended(project: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    process = cai(project, *arguments)
    output, _ = process.communicate()
    return process.returncode, output


def told(output: str) -> bool:
    """Whether a person can read what failed: the output ends in words, without a traceback."""
    return "Traceback" not in output and bool(output.strip())
