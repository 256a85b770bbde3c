from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE / area) for area in ("defs", "e2e", "evals", "export", "lineage", "train"))]

from patience import Guard  # noqa: E402  it lies in the folder named above

# An example may take as long as the machine needs.
hypothesis.settings.register_profile("any machine", deadline=None,
                                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True, scope="session")
def _no_test_hangs() -> Iterator[None]:
    with Guard():
        yield


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not decide them."""
    for name in [n for n in os.environ if n.startswith("CAI_")]:
        monkeypatch.delenv(name)
