"""A data root made by the first release is read, reused, traced and verified by this version, wherever it lies now.

``released/0.1.0.tar.xz`` holds a tiny model and the root of ``histories.History`` as version 0.1.0 made it: the shipped
customer-service constitution, then an edit of the critique request of its first principle.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from histories import START, History, copy_instead_of_training, stored

from cai_assets.defs import launch
from cai_assets.lineage.trace import trace
from cai_assets.lineage.verify import verify
from cai_assets.plan.plan import make_plan
from cai_assets.store.layout import Layout

RELEASED = sorted((Path(__file__).parent / "released").glob("*.tar.xz"))
# Of smoke in 0.1.0; a default that has changed since is an edit of the recipe, and trains again.
AS_RELEASED = {"learning_rate": 1e-6, "ppo_epochs": 2}
EDITED = "Say what is wrong, in one sentence."


@pytest.fixture(params=RELEASED, ids=lambda path: path.name)
def released(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """The kept root, and both of its constitutions, unpacked elsewhere than it was made."""
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)  # the scripted engine is identified by the model's path as the settings give it
    history = History(tmp_path, Path("tiny"))
    history.settings["rl"] = dict(AS_RELEASED)
    first, *others = START.principles
    edited = START.model_copy(update={"principles": (first.model_copy(update={"critique": EDITED}), *others)})
    history.past = [(START, history.settings), (edited, history.settings)]
    return history


@pytest.mark.fault("an upgrade from the first release, moved to another path")
def test_a_released_root_is_read_reused_traced_and_verified(released: History) -> None:
    root = released.root / "data"
    rows = stored(root)
    assert RELEASED
    assert verify(Layout(root)) == []
    for constitution, _ in released.past:
        released.constitution = constitution
        project = released.project(root)
        version = project.snapshots.register(released.constitution)
        plan = make_plan(project, version)
        assert {(line.generate_max, line.training or "reuse") for line in plan.lines} == {(0, "reuse")}, plan.lines
        assert released.run(root) == (True, version)
        assert traced(root, version)
    assert stored(root) == rows
    assert verify(Layout(root)) == []


def traced(root: Path, version: str) -> list[str]:
    """Principles that shaped the version's last policy, without a problem on the way."""
    lineage = trace(Layout(root), f"rl_policy@{version}").lineage
    assert lineage.problems == ()
    assert lineage.influence
    return [p.id for p in lineage.influence.principles if p.rows]
