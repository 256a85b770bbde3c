from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE / area) for area in ("defs", "e2e", "evals", "export", "lineage", "train"))]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not decide them."""
    for name in [n for n in os.environ if n.startswith("CAI_") and not n.startswith("CAI_TEST")]:
        monkeypatch.delenv(name)
