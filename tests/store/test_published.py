"""A published folder says of each of its files what it is; one changed bit of any is named."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from cai_assets.store import file_digests, this_run
from cai_assets.store.checkpoints import Checkpoint, Checkpoints, UnlistedFile
from cai_assets.store.file_digests import remembered
from cai_assets.store.folders import BrokenLink
from cai_assets.store.layout import Layout
from cai_assets.store.published import read_about, write_about

pytestmark = pytest.mark.fault("damage, links and strange files in a checkpoint's folder")

KEY = f"k1:{1:032x}"
FILES = {"model.safetensors": b"weights" * 1000, "config.json": b"{}", "tokenizer.json": b"{}",
         "tokenizer_config.json": b"{}", "chat_template.jinja": b"{{ messages }}", "metrics.json": b"{}",
         "curves.jsonl": b"{}", "lineage.json": b"{}", "lineage_rows.parquet": b"PAR1"}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(Layout(tmp_path))


@pytest.fixture
def published(checkpoints: Checkpoints) -> Checkpoint:
    return publish(checkpoints)


def publish(checkpoints: Checkpoints) -> Checkpoint:
    with checkpoints.making(KEY) as work:
        (work / "final").mkdir()
        for name, data in FILES.items():
            (work / "final" / name).write_bytes(data)
        return checkpoints.publish("sl_policy", KEY, work / "final", record={"metrics": {"loss": 1.5}}, card="Card")


def flip(path: Path, bit: int) -> None:
    """Change one bit and no date."""
    times, data = path.stat(), bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("name", [*FILES, "record.json"])
def test_any_bit_of_any_file_is_named(name: str, checkpoints: Checkpoints, published: Checkpoint) -> None:
    path = published.path / name
    whole = path.read_bytes()
    bits = range(len(whole) * 8)
    for bit in random.Random(name).sample(bits, min(len(bits), 60)):
        path.write_bytes(whole)
        assert checkpoints.whole("sl_policy", KEY) == published
        flip(path, bit)
        changed = name != "record.json" or not same(whole, path.read_bytes())
        assert (checkpoints.whole("sl_policy", KEY) is None) == changed, bit
        assert not changed or str(path) in str(checkpoints.damage("sl_policy", KEY))
    path.unlink()
    assert checkpoints.damage("sl_policy", KEY) == f"{path} is missing"


def same(one: bytes, other: bytes) -> bool:
    """Whether two texts are the same JSON: a space may have become another kind of space."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_what_is_damaged_is_set_aside_and_its_place_is_free(
    checkpoints: Checkpoints, published: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.set_aside("sl_policy", KEY)
    assert checkpoints.whole("sl_policy", KEY) == published  # there was nothing to set aside
    flip(published.path / "model.safetensors", 100)
    checkpoints.set_aside("sl_policy", KEY)
    assert not published.path.exists()
    (aside,) = (published.path.parents[2] / "damaged" / "checkpoints" / "sl_policy").iterdir()
    assert "model.safetensors is not as record.json says" in caplog.text
    assert str(aside) in caplog.text
    publish(checkpoints)
    assert checkpoints.whole("sl_policy", KEY) is not None


def test_two_disks(checkpoints: Checkpoints, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Checkpoints may lie on another one, whose folder is a link here."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    elsewhere = other / tmp_path_factory.mktemp("x").name
    elsewhere.mkdir(exist_ok=True)
    try:
        (tmp_path / "checkpoints").symlink_to(elsewhere)
        made = publish(checkpoints)
        assert checkpoints.whole("sl_policy", KEY) == made
        flip(made.path / "model.safetensors", 0)
        checkpoints.set_aside("sl_policy", KEY)
        assert publish(checkpoints) == checkpoints.whole("sl_policy", KEY)
        assert [p.name for p in elsewhere.rglob("*.tmp")] == []
    finally:
        shutil.rmtree(elsewhere)


def test_a_link_that_leads_nowhere(checkpoints: Checkpoints, published: Checkpoint, tmp_path: Path) -> None:
    moved = published.path.rename(tmp_path / "moved")
    published.path.symlink_to(moved)
    assert checkpoints.whole("sl_policy", KEY) == published
    shutil.rmtree(moved)
    with pytest.raises(BrokenLink, match="mount that disk, or remove the link"):
        checkpoints.whole("sl_policy", KEY)


@pytest.mark.parametrize("name", ["model-2.safetensors", "adapter_config.json", "additional_chat_templates/x.jinja"])
def test_a_file_more_is_named(checkpoints: Checkpoints, published: Checkpoint, name: str) -> None:
    (published.path / name).parent.mkdir(exist_ok=True)
    (published.path / name).write_text("{}")
    with pytest.raises(UnlistedFile, match="move it away"):
        checkpoints.whole("sl_policy", KEY)


def test_notes_of_a_person_and_of_the_hub_are_no_damage(checkpoints: Checkpoints, published: Checkpoint) -> None:
    for name in ("notes.txt", ".gitattributes", ".cache/huggingface/download/config.json"):
        (published.path / name).parent.mkdir(parents=True, exist_ok=True)
        (published.path / name).write_text("{}")
    assert checkpoints.whole("sl_policy", KEY) == published


def test_an_unchanged_file_is_read_once_and_then_once_a_run(
    checkpoints: Checkpoints, published: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    digest = file_digests.digest_file
    monkeypatch.setattr(file_digests, "digest_file", lambda file: taken.append(file.name) or digest(file))
    assert checkpoints.whole("sl_policy", KEY, read=True)
    assert taken == []  # published by this run
    this_run.begin()
    assert checkpoints.whole("sl_policy", KEY)
    assert taken == []
    for _ in range(2):
        assert checkpoints.whole("sl_policy", KEY, read=True)
    assert sorted(taken) == sorted([*FILES, "README.md"])


def test_writers_at_once_keep_each_others_digests(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    files = [layout.file("models", name) for name in ("one", "two")]
    for file in files:
        file.write_text(file.name)
    with remembered(layout) as one, remembered(layout) as two:
        one(files[0])
        two(files[1])
    kept = json.loads(layout.path("models", "digests.json").read_text())
    assert sorted(kept) == sorted(map(str, files))


def test_digests_of_an_earlier_release_are_taken_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    file = layout.file("models", "one")
    file.write_text("one")
    said = file.stat()
    layout.path("models", "digests.json").write_text(json.dumps({f"{file}|{said.st_size}|{said.st_mtime_ns}": "wrong"}))
    with remembered(layout) as digests:
        assert digests(file).startswith("sha256:")


def test_one_whose_publishing_was_killed_is_completed_and_whole(checkpoints: Checkpoints) -> None:
    final = checkpoints.work(KEY) / "final"
    final.mkdir(parents=True)
    (final / "record.json").write_text('{"key": "' + KEY + '"}')
    (final / ".README.md.0123.tmp").write_text("half a ca")
    for name, data in FILES.items():
        (final / name).write_bytes(data)
    with checkpoints.making(KEY):
        published = checkpoints.publish("sl_policy", KEY, final, record={"metrics": {}}, card="Card")
    assert "record.json" not in published.record["files"]
    assert sorted(p.name for p in published.path.iterdir()) == sorted([*FILES, "README.md", "record.json"])
    assert checkpoints.whole("sl_policy", KEY, read=True) is not None


def test_a_record_that_lists_itself_is_of_an_earlier_release(checkpoints: Checkpoints, published: Checkpoint) -> None:
    about = read_about(published.path)
    write_about(published.path, {**about, "files": {**about["files"], "record.json": "sha256:before"}})
    assert checkpoints.whole("sl_policy", KEY, read=True) is not None
