"""kill -9 wherever a file gets its name or reaches the disk: nothing is lost, doubled, or half-written."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from dying import die_after, die_before, run_apart
from undisturbed import Undisturbed

from cai_assets.lineage.verify import verify
from cai_assets.store.layout import Layout

CHAINS, LONGEST_LIFE = 8, 150  # renames, links, unlinks and syncs; a whole run has some hundred


@pytest.mark.long
@pytest.mark.fault("kill -9 before or after a rename, link, unlink or sync of a whole graph")
@pytest.mark.parametrize("seed", range(CHAINS))
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    undisturbed: Undisturbed, tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    rng, root, kills = random.Random(seed), tmp_path / "data", 0
    while (code := run_apart(undisturbed.history, root, rng.choice((die_before, die_after)),
                             rng.randint(1, LONGEST_LIFE))) == -signal.SIGKILL:
        kills += 1
        assert verify(Layout(root)) == []
    assert code == 0
    assert kills
    undisturbed.equals(root)
    record_property("tried", kills)
