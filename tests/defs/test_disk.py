"""What does not fit is said before it is started, with numbers; what killed runs left is gone when the next starts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from histories import History, stored
from safetensors.numpy import load_file

from cai_assets.engines.weights import parameters
from cai_assets.plan.plan import make_plan
from cai_assets.plan.space import needed, refuse_without_room, said
from cai_assets.train import footprint as footprints
from cai_assets.train.footprint import Footprint, NoRoom, footprint

pytestmark = pytest.mark.fault("disks that are full, too small, or read-only, command by command")


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=0, free=free))


def test_a_version_that_cannot_fit_is_refused_before_anything_is_generated(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = history.root / "data"
    project = history.project(root)
    version = project.snapshots.register(history.constitution)
    each = footprint(history.model, project.settings, "supervised")
    assert needed(project, make_plan(project, version))[0] == 4 * each.final + each.state
    leave(monkeypatch, 4 * each.final + each.state - 1)
    with pytest.raises(NoRoom, match=r"writes at least 1\.5 MB under .* and 1\.5 MB are free there: free space, or"):
        refuse_without_room(project, version)
    assert "that does not fit" in said(project, make_plan(project, version))
    assert history.run(root) == (False, version)
    assert stored(root) == {}
    leave(monkeypatch, 4 * each.final + each.state)
    assert history.run(root) == (True, version)
    leave(monkeypatch, 0)  # nothing is left to be written
    refuse_without_room(project, version)
    assert said(project, make_plan(project, version)) == ""


def test_a_run_of_assets_that_train_nothing_is_not_measured_by_the_trainings(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = history.project(history.root / "data")
    version = project.snapshots.register(history.constitution)
    leave(monkeypatch, 1000)
    refuse_without_room(project, version, {"initial_responses", "critiques"})
    with pytest.raises(NoRoom):
        refuse_without_room(project, version, {"rl_policy"})


def test_a_training_looks_again_and_counts_what_it_has_written_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = Footprint(final=1000, state=6000)
    leave(monkeypatch, 6999)
    with pytest.raises(NoRoom, match=r"sl_policy writes 0\.0 MB .* under .*: free space, or move"):
        footprints.refuse_without_room("sl_policy", writes, tmp_path)
    (tmp_path / "state").write_bytes(b"x")
    footprints.refuse_without_room("sl_policy", writes, tmp_path)


def test_numbers_of_a_model_are_counted_from_its_headers(history: History, tmp_path: Path) -> None:
    numbers = sum(tensor.size for tensor in load_file(history.model / "model.safetensors").values())
    assert parameters(history.model) == numbers
    settings = history.project(tmp_path).settings
    full = footprint(history.model, settings, "reward")
    assert full.state == 12 * numbers
    assert full.final in {2 * numbers, 4 * numbers}
    history.settings["sl"] = {"lora": {}}
    assert footprint(history.model, history.project(tmp_path).settings, "supervised").state < full.state / 40
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    assert parameters(tmp_path) == 0  # the training will say what is wrong with it


def test_a_run_removes_what_killed_ones_left(history: History) -> None:
    left = history.root / "data" / "models" / f".smollm2.{1:032x}.tmp"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    history.run(history.root / "data")
    assert not left.exists()
