"""Archived versions and the order of registration: nothing is lost, whatever is copied or runs at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
from pathlib import Path

import pytest

from cai_assets.constitution.digest import digest
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.store.layout import Layout
from cai_assets.versions.archive import Archive, previous
from cai_assets.versions.snapshots import KeyTaken, SnapshotDamaged, Snapshots, UnknownVersion

OLDEST = (  # without 'evaluation' and 'reasons', which came later
    '{"name":"oldest","version":"v1","description":"","principles":[{"id":"b","name":null,"critique":"Say what is '
    'wrong.","revision":"Mend it.","preference":null,"weight":2.0,"tags":[],"source":null},{"id":"a","name":null,'
    '"critique":null,"revision":null,"preference":"Which is kinder?","weight":1.0,"tags":["kind"],"source":null}],'
    '"few_shots":{"revision":[],"preference":[{"prompt":"p","a":"x","b":"y","request":"r","choice":"A"}]}}')


def version(text: str, name: str = "c", label: str = "v1") -> Constitution:
    return Constitution(name=name, version=label, principles=(Principle(id="a", preference=text),))


def register(root: Path, text: str) -> None:
    Snapshots(Layout(root)).register(version(text))


def archive(root: Path, key: str) -> None:
    Archive(Layout(root)).archive(key)


def at_once(target: object, arguments: list[tuple[Path, str]]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=a) for a in arguments]  # type: ignore[arg-type]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * len(processes)


def test_archive_and_restore_keep_everything(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    keys = [Snapshots(layout).register(version(text)) for text in ("one", "two")]
    before = {p: p.read_bytes() for p in (tmp_path / "constitutions").iterdir()}
    assert Archive(layout).archived() == set()
    assert Archive(layout).archive(keys[0])
    assert not Archive(layout).archive(keys[0])
    assert Archive(layout).archived() == {keys[0]}
    assert Archive(layout).restore(keys[0])
    assert not Archive(layout).restore(keys[1])
    assert Archive(layout).archived() == set()
    history = json.loads((tmp_path / "constitutions-archived.json").read_text())
    assert [(e["key"], e["archived"]) for e in history] == [(keys[0], True), (keys[0], False)]
    assert {p: p.read_bytes() for p in (tmp_path / "constitutions").iterdir()} == before
    assert Snapshots(layout).known() == keys


@pytest.mark.parametrize("key", ["c-v1-00000000", "../../etc/passwd", ""])
def test_an_unknown_key_is_an_error_that_names_the_known_ones(tmp_path: Path, key: str) -> None:
    known = Snapshots(Layout(tmp_path)).register(version("one"))
    for attempt in (Archive(Layout(tmp_path)).archive, Archive(Layout(tmp_path)).restore):
        with pytest.raises(UnknownVersion, match=known):
            attempt(key)
    with pytest.raises(UnknownVersion, match=known):
        previous(key, Snapshots(Layout(tmp_path)))


def test_processes_at_once_lose_no_registration_and_no_mark(tmp_path: Path) -> None:
    at_once(register, [(tmp_path, f"text {i}") for i in range(6)])
    snapshots = Snapshots(Layout(tmp_path))
    listed = json.loads((tmp_path / "constitutions-order.json").read_text())
    assert sorted(listed) == sorted(p.stem for p in (tmp_path / "constitutions").glob("*.json"))
    assert len(listed) == 6
    at_once(archive, [(tmp_path, key) for key in snapshots.known()])
    assert Archive(Layout(tmp_path)).archived() == set(listed)


def test_a_broken_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "constitutions-archived.json").write_text("[{")
    with pytest.raises(ValueError, match=r"constitutions-archived\.json is not JSON"):
        Archive(Layout(tmp_path)).archived()


def test_previous_is_the_one_registered_before_of_the_same_name(tmp_path: Path) -> None:
    snapshots = Snapshots(Layout(tmp_path))
    first = snapshots.register(version("one"))
    other = snapshots.register(version("one", name="other"))
    second = snapshots.register(version("two", label="v2"))
    assert snapshots.register(version("one")) == first  # back to the earlier text: nothing new
    third = snapshots.register(version("three"))
    assert [previous(k, snapshots) for k in (first, other, second, third)] == [None, None, first, second]


def test_the_order_of_registration_survives_copying(tmp_path: Path) -> None:
    snapshots = Snapshots(Layout(tmp_path))
    keys = [snapshots.register(version(text)) for text in "abcdefgh"]
    for age, key in enumerate(keys):
        os.utime(tmp_path / "constitutions" / f"{key}.json", (10_000 - age, 10_000 - age))
    assert snapshots.known() == keys


def test_an_older_data_root_keeps_its_order_and_goes_on(tmp_path: Path) -> None:
    snapshots = Snapshots(Layout(tmp_path))
    keys = [snapshots.register(version(text)) for text in "abc"]
    (tmp_path / "constitutions-order.json").unlink()
    for time, key in zip((30, 10, 20), keys, strict=True):
        os.utime(tmp_path / "constitutions" / f"{key}.json", (time, time))
    old = [keys[1], keys[2], keys[0]]
    assert snapshots.known() == old
    new = snapshots.register(version("d"))
    assert Snapshots(Layout(tmp_path)).known() == [*old, new]
    assert json.loads((tmp_path / "constitutions-order.json").read_text()) == [*old, new]


def test_two_constitutions_cannot_share_a_key(tmp_path: Path) -> None:
    snapshots = Snapshots(Layout(tmp_path))
    key = snapshots.register(version("same", name="a-b", label="c"))
    with pytest.raises(KeyTaken, match="'a' version 'b-c' would get the key"):
        snapshots.register(version("same", name="a", label="b-c"))
    assert snapshots.load(key).name == "a-b"
    assert snapshots.known() == [key]


def test_a_snapshot_is_what_its_key_says_or_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    snapshots = Snapshots(layout)
    key = snapshots.register(version("which is kinder"))
    path = tmp_path / "constitutions" / f"{key}.json"
    whole, rng, said = path.read_bytes(), random.Random(3), list[str]()
    for bit in rng.sample(range(len(whole) * 8), 200):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert digest(snapshots.load(f"{key}-r2")) == digest(version("which is kinder"))
        except SnapshotDamaged as e:
            said.append(str(e))
    assert len(said) > 50
    assert all(str(path) in line for line in said)
    path.write_bytes(whole.replace(b"kinder", b"colder"))
    with pytest.raises(SnapshotDamaged, match=r"has the content of c-v1-.*cai register"):
        snapshots.load(key)


def test_a_damaged_snapshot_is_stored_again_by_registering(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots = Snapshots(Layout(tmp_path))
    key = snapshots.register(version("one"))
    path = tmp_path / "constitutions" / f"{key}.json"
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    assert snapshots.register(version("one")) == key
    assert snapshots.load(key) == version("one")
    (aside,) = (tmp_path / "damaged" / "constitutions").iterdir()
    assert b"two" in aside.read_bytes()
    assert f"{path} was damaged and is stored again" in caplog.text
    assert snapshots.known() == [key]


def test_a_snapshot_of_the_first_release_is_what_its_key_says(tmp_path: Path) -> None:
    path = tmp_path / "constitutions" / "oldest-v1-b557e894.json"
    path.parent.mkdir()
    path.write_text(OLDEST)
    assert Snapshots(Layout(tmp_path)).load("oldest-v1-b557e894").principle("b").weight == 2


def test_registering_again_with_another_description_changes_nothing(tmp_path: Path) -> None:
    snapshots = Snapshots(Layout(tmp_path))
    key = snapshots.register(version("one"))
    assert snapshots.register(version("one").model_copy(update={"description": "Later"})) == key
    assert snapshots.load(key).description == ""
