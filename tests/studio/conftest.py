from __future__ import annotations

from pathlib import Path

import pytest
from made_studio import Counted, Studio, project_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import tiny_model  # here: it takes seconds

    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """A project in which nothing has been made, and without a model: pages that plan nothing need none."""
    return Studio(project_folder(tmp_path, monkeypatch), Counted())


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Studio:
    """A project with a model, so that it can be planned."""
    return Studio(project_folder(tmp_path, monkeypatch, model), Counted())
