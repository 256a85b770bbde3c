"""A history that starts from nothing, for every test of the graph that wants one."""

from __future__ import annotations

from pathlib import Path

import pytest
from histories import History, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.defs import launch


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """On tiny models and the scripted engine; the trainer is replaced by a copy of its base."""
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    return History(tmp_path, tiny_model(tmp_path / "tiny"))
