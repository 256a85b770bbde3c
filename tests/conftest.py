from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not decide them."""
    for name in [n for n in os.environ if n.startswith("CAI_") and not n.startswith("CAI_TEST")]:
        monkeypatch.delenv(name)
