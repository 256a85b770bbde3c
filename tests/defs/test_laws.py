"""Laws 1 to 4 under random histories: edits, reverts, settings, new prompts, crashes and runs of another version at the
same time, through the real graph.

After each step of the history the version is also built from nothing in a fresh data root: every asset must come out
with the same digest and the same row keys, and the plan made before must hold what the run did.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from histories import (
    History,
    check_rows_are_conserved,
    crash_somewhere,
    latest,
    named,
    run_at_once,
    stored,
)
from object_store import DataRoot

from cai_assets.plan.plan import Plan, make_plan

STEPS = 4


def check_equals_a_rebuild(history: History, version: str, data: DataRoot, fresh: Path) -> dict[str, str]:
    """The version in the data root is what a build from nothing makes; return the rows of that build."""
    assert history.run(fresh) == (True, version)
    rebuilt, incremental = stored(fresh), stored(data)
    assert history.digests(data, version) == history.digests(fresh, version)
    assert named(data, version) == named(fresh, version)
    assert rebuilt.items() <= incremental.items()
    assert {k: incremental[k] for k in named(data, version)} == {k: rebuilt[k] for k in named(fresh, version)}
    check_rows_are_conserved(data, version)
    shutil.rmtree(fresh)
    return rebuilt


def check_the_plan_held(plan: Plan, data: DataRoot) -> None:
    for line in plan.lines:
        record = latest(data, line.asset, plan.version)
        assert record.failed == 0, line.asset
        assert line.generate_min <= record.generated <= line.generate_max, line
        assert sum(line.causes.values()) >= line.generate_max + line.trains, line  # every number is explained
        if line.training:
            wanted = {"reuse": {True}, "train": {False}}.get(line.training, {True, False})
            assert record.details["reused_checkpoint"] in wanted, line


@pytest.mark.fault("edits, reverts, crashes and two runs at once, against a rebuild")
@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_an_incremental_history_equals_a_rebuild_at_every_step(
    history: History, seed: int, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    assert history.run(root)[0]
    beside = rng.randrange(STEPS)
    for step in range(STEPS):
        what = history.change(rng)
        if what == "crash":
            crash_somewhere(history, rng, monkeypatch, root)
        project = history.project(root)
        plan = make_plan(project, project.snapshots.register(history.constitution))
        if step == beside:
            other = history.beside(rng)
            version, another = run_at_once([history, other], root)
            check_equals_a_rebuild(other, another, root, history.root / "fresh-other")
        else:
            success, version = history.run(root)
            assert success, what
            check_the_plan_held(plan, root)
        check_equals_a_rebuild(history, version, root, history.root / f"fresh-{step}")


@pytest.mark.fault("edits, reverts, crashes and two runs at once, against a rebuild")
def test_two_versions_at_once_in_an_empty_root_lose_no_row_and_share_the_rest(
    history: History, root: DataRoot
) -> None:
    other = history.beside(random.Random(3))
    versions = run_at_once([history, other], root)
    rebuilt = {}
    for one, version in zip((history, other), versions, strict=True):
        rebuilt |= check_equals_a_rebuild(one, version, root, history.root / f"fresh-{version}")
    assert stored(root) == rebuilt
