"""The clock of a machine jumps between runs: order and reuse depend on content, not on time."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest
from dying import run_apart, step_the_clock
from undisturbed import Undisturbed

DAY = 86_400.0
STEPS = (-40 * DAY, 400 * DAY, 0.0)


@pytest.mark.long
@pytest.mark.fault("the clock 40 days back, 400 days on, and right again")
@pytest.mark.parametrize("steps", list(itertools.permutations(STEPS))[::2], ids=str)
def test_runs_at_any_times_end_as_one(undisturbed: Undisturbed, tmp_path: Path, steps: tuple[float, ...]) -> None:
    root = tmp_path / "data"
    for seconds in steps:
        assert run_apart(undisturbed.history, root, step_the_clock, seconds) == 0
        undisturbed.equals(root)
        _age(root, seconds)


def _age(root: Path, seconds: float) -> None:
    """The files bear the time of the run that wrote them, as a clock that was wrong then would have left them."""
    then = time.time() + seconds
    for path in (p for p in root.rglob("*") if p.is_file()):
        os.utime(path, (then, then))
