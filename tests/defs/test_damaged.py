"""A bit flips between two commands: what is damaged is neither used nor kept as if it were whole, and is made again."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest
from histories import History, copy_instead_of_training, stored
from made_history import flipped
from tiny_models import tiny_model

from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.lineage.trace import trace
from cai_assets.lineage.verify import verify
from cai_assets.pipeline.roles import CheckpointGone
from cai_assets.plan.plan import make_plan
from cai_assets.store import file_digests
from cai_assets.versions.snapshots import VERSIONS, SnapshotDamaged

pytestmark = pytest.mark.fault("damage of a constitution, record or checkpoint between two commands")


class Done(NamedTuple):
    """How a command ended: ``said`` has all that its assets logged, and why they failed."""

    success: bool
    said: str


class Root:
    """A finished data root, to be damaged."""

    def __init__(self, history: History, path: Path, version: str) -> None:
        self.history, self.path, self.version = history, path, version
        self.project = history.project(path)

    def materialize(self, *selection: str) -> Done:
        """What the UI, the schedule and automation do: a version that is registered already."""
        heard = Heard()
        logging.getLogger("cai_assets").addHandler(heard)
        try:
            with dg.DagsterInstance.ephemeral() as instance:
                instance.add_dynamic_partitions(VERSIONS, [self.version])
                overrides = {**self.history.settings, "data_root": str(self.path)}
                result = materialize(instance, self.version, selection=selection, overrides=overrides)
        finally:
            logging.getLogger("cai_assets").removeHandler(heard)
        return Done(result.success, "\n".join([*heard.lines, *map(str, _failures(result))]))

    def checkpoint(self, asset: str) -> Path:
        record = self.project.records.latest(asset, self.version)
        return self.project.layout.absolute(record.path)

    def training(self, asset: str) -> str:
        """What a plan says of a training."""
        return make_plan(self.project, self.version).line(asset).training

    def state(self) -> tuple[dict[str, str], dict[str, str]]:
        return stored(self.path), self.history.digests(self.path, self.version)


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _failures(result: Any) -> Iterator[str]:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None:
                yield error.message
                error = error.cause
            if event.step_failure_data.user_failure_data:
                yield str(event.step_failure_data.user_failure_data.description)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, Path, str]:
    folder = tmp_path_factory.mktemp("finished")
    history = History(folder, tiny_model(folder / "tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        done, version = history.run(folder / "data")
    assert done
    return history, folder / "data", version


@pytest.fixture
def root(finished: tuple[History, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    history, data, version = finished
    return Root(history, Path(shutil.copytree(data, tmp_path / "data")), version)


def flip(path: Path, at: int | None = None) -> bytes:
    """Change one bit, and the file's times back to what they were; return the bytes as they were."""
    times, before = path.stat(), path.read_bytes()
    data = bytearray(before)
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return before


def test_a_damaged_constitution_makes_nothing_and_is_mended_by_registering_it(root: Root) -> None:
    snapshot = root.path / "constitutions" / f"{root.version}.json"
    before = root.state()
    intact = flip(snapshot, snapshot.read_bytes().index(b'"critique": "') + 20)
    done = root.materialize()
    assert not done.success
    assert str(snapshot) in done.said
    assert "cai register" in done.said
    assert root.state() == before
    with pytest.raises(SnapshotDamaged, match=r"cai register"):
        make_plan(root.project, root.version)
    assert root.project.snapshots.register(root.history.constitution) == root.version
    assert snapshot.read_bytes() == intact
    (aside,) = (root.path / "damaged" / "constitutions").iterdir()
    assert aside.name.startswith(snapshot.name)
    assert root.materialize().success
    assert root.state() == before
    assert verify(root.project.layout) == []


@pytest.mark.parametrize("name", ["model.safetensors", "record.json"])
def test_a_damaged_policy_is_set_aside_and_trained_again(root: Root, name: str) -> None:
    path, before = root.checkpoint("sl_policy") / name, root.state()
    inode = path.parent.stat().st_ino
    flip(path)
    damaged = path.read_bytes()
    plan = make_plan(root.project, root.version).line("sl_policy")
    assert plan.training == "train"
    assert any(str(path) in cause for cause in plan.causes)
    done = root.materialize()
    assert done.success, done.said
    assert str(path) in done.said
    (aside,) = (root.path / "damaged" / "checkpoints" / "sl_policy").iterdir()
    assert (aside / name).read_bytes() == damaged
    assert path.parent.stat().st_ino != inode
    assert root.state() == before
    assert verify(root.project.layout) == []
    assert root.training("sl_policy") == "reuse"


@pytest.mark.parametrize("asset", ["response_pairs", "rl_policy", "evaluation"])
def test_a_damaged_policy_is_neither_sampled_nor_trained_from(root: Root, asset: str) -> None:
    """Where it is not made again, because only what reads it is asked for."""
    before = root.state()
    with flipped(root.checkpoint("sl_policy") / "model.safetensors"):
        done = root.materialize(asset)
        assert not done.success
        assert "model.safetensors is not as record.json says" in done.said
        assert "materialize sl_policy again" in done.said
        assert root.state() == before
    assert root.materialize(asset).success
    assert root.state() == before


def test_a_disk_that_changes_bytes_and_no_date_is_noticed_once_a_run(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests.State, "of", lambda file: file_digests.State(0, 0, 0, 0))
    assert root.materialize().success
    before, path = root.state(), root.checkpoint("rl_policy") / "model.safetensors"
    flip(path)
    assert root.training("rl_policy") == "reuse"  # as far as a plan looks
    done = root.materialize()
    assert done.success, done.said
    assert f"{path} is not as record.json says it was published" in done.said
    assert root.state() == before
    assert verify(root.project.layout) == []


@pytest.mark.parametrize(("spoil", "what"), [(Path.unlink, "is missing"), (lambda p: p.write_text("{"), "is not JSON")])
def test_a_folder_without_its_record_is_set_aside_and_made_again(
    root: Root, spoil: Callable[[Path], object], what: str
) -> None:
    before, folder = root.state(), root.checkpoint("reward_model")
    spoil(folder / "record.json")
    assert root.training("reward_model") == "train"
    done = root.materialize()
    assert done.success, done.said
    assert f"{folder / 'record.json'} {what}" in done.said
    assert (folder / "record.json").is_file()
    assert root.state() == before


def test_a_checkpoint_on_another_disk_is_used_through_a_link(root: Root, tmp_path: Path) -> None:
    before, folder = root.state(), root.checkpoint("sl_policy")
    elsewhere = tmp_path / "larger disk"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    done = root.materialize()
    assert done.success, done.said
    assert root.state() == before
    assert verify(root.project.layout) == []
    assert trace(root.project.layout, f"sl_policy@{root.version}").lineage.problems == ()
    elsewhere.rename(tmp_path / "not mounted")
    done = root.materialize()
    assert not done.success
    assert f"{folder} is a link to {elsewhere}, which is not there" in done.said


def test_a_file_that_was_put_beside_the_weights_is_named(root: Root) -> None:
    more = root.checkpoint("sl_policy") / "adapter_config.json"
    more.write_text("{}")
    done = root.materialize()
    assert not done.success
    assert f"{more} is not listed in record.json" in done.said
    assert "move it away" in done.said
    more.unlink()
    assert root.materialize().success


def test_an_edited_card_is_named_and_trains_nothing(root: Root) -> None:
    card = root.checkpoint("sl_policy") / "README.md"
    card.write_text(card.read_text() + "\nMore.\n")
    done = root.materialize()
    assert done.success
    assert f"{card} is not as record.json says it was published" in done.said
    assert not (root.path / "damaged").exists()


def test_a_damaged_record_is_named_with_the_command_that_makes_it_again(root: Root) -> None:
    path = root.path / "records" / "critiques" / root.version / "000001.json"
    flip(path, path.read_bytes().index(b'"generated"') + 14)
    done = root.materialize("sl_dataset")
    assert not done.success
    assert f"{path} does not say what was written" in done.said
    assert f"cai materialize {root.version} --select critiques" in done.said
    path.unlink()
    assert root.materialize("critiques", "revisions").success
    assert root.materialize().success


def test_a_damaged_policy_of_the_round_before_starts_no_round(root: Root) -> None:
    record = root.project.records.latest("rl_policy", root.version)
    with flipped(root.checkpoint("rl_policy") / "model.safetensors"), pytest.raises(CheckpointGone, match="is damaged"):
        make_plan(root.project, f"{root.version}-r2")
    assert root.project.checkpoints.whole("rl_policy", record.digest) is not None
