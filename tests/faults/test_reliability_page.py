"""What docs/reliability.md says of its tests."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_test_that_it_names_injects_a_fault() -> None:
    page = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)", page))
    assert len(named) > 10
    without = [name for name in named if "mark.fault(" not in (REPOSITORY / name).read_text(encoding="utf-8")]
    assert without == []
