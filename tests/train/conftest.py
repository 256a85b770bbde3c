"""What the tests of training share: models small enough to train, and arithmetic that can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import tiny_model, tiny_reward_model

from cai_assets.engines.number_format import Device


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare numbers in float32 everywhere."""
    monkeypatch.setattr("cai_assets.engines.number_format.device", lambda: Device("this test", ("float32",)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def scorer(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reward_model(base, tmp_path_factory.mktemp("scorer"))
