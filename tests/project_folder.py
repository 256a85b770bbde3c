"""A project of one constitution and the scripted engine, for commands that are called in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def project_of(constitution: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder a project with ``constitutions/mild.yaml``, and have the settings point there; return it."""
    (folder / "constitutions").mkdir()
    (folder / "constitutions" / "mild.yaml").write_text(constitution)
    monkeypatch.setenv("CAI_DATA_ROOT", str(folder / "data"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(folder / "constitutions"))
    monkeypatch.setenv("CAI_MODELS__GENERATOR", json.dumps({"source": "scripted", "backend": "scripted"}))
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").touch()  # without it Dagster warns, on whatever logs go to
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))
    return folder
