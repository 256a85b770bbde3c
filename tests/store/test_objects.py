"""The store on a real object store (SeaweedFS on loopback): what storage promises, races, leases, refusals, copies.

The laws in it hold on another server too, moto. Those that a folder shares are in the other files, with ``root``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cai_assets.store import leases, objects
from cai_assets.store.compaction import Busy, alone, compact
from cai_assets.store.copying import CannotCopy, copy_root
from cai_assets.store.journal import Journal
from cai_assets.store.layout import Layout
from cai_assets.store.objects import ObjectFolder, ObjectsUnusable, open_objects
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import RowStore, StoredRow
from cai_assets.store.storage import PosixFolder, UnsafeName
from cai_assets.store.upkeep import stats, verify

EACH_SERVER = pytest.mark.parametrize("objects_url", ["object_server", "moto_server"], indirect=True)
OTHER_SERVER_TOO = pytest.mark.parametrize(
    "objects_url", ["object_server", pytest.param("moto_server", marks=pytest.mark.long)], indirect=True)


@pytest.fixture
def storage(objects_url: str) -> ObjectFolder:
    return open_objects(objects_url)


def elsewhere(objects_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectFolder:
    """The same store on another machine: one with other copies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    open_objects.cache_clear()
    return open_objects(objects_url)


def row(i: int) -> StoredRow:
    return StoredRow(f"r1:{i:032x}", "{}", f"text {i}", "stop", [], 1, 1)


def fill(layout: Layout, numbers: range, each: int = 5) -> None:
    for start in numbers[::each]:
        with RowStore(layout).writer("critique") as writer:
            for i in range(start, min(start + each, numbers.stop)):
                writer.add(row(i))


def keys(numbers: range) -> set[str]:
    return {row(i).row_key for i in numbers}


@EACH_SERVER
def test_a_blob_is_put_replaced_listed_moved_and_deleted(storage: ObjectFolder) -> None:
    for name in ("records/a-r2/1", "records/a/2", "records/a/1", "records/a/.hidden", "rows/1"):
        storage.put(name, b"old")
    storage.put("records/a/1", b"newer")
    assert storage.get("records/a/1") == b"newer" == b"".join(storage.chunks("records/a/1"))
    assert [(e.name, e.size) for e in storage.list("records")] == [
        ("records/a/1", 5), ("records/a/2", 3), ("records/a-r2/1", 3)]
    assert abs(storage.list("rows/1")[0].modified - time.time()) < 60
    assert storage.folders("records") == ["a", "a-r2"]
    storage.move("records/a", "damaged/records/a")
    assert [e.name for e in storage.list("damaged")] == ["damaged/records/a/1", "damaged/records/a/2"]
    storage.delete("records/a-r2/1", "records/a-r2/1", "nothing")
    assert storage.list("records") == []
    for work in (storage.get, lambda name: list(storage.chunks(name))):
        with pytest.raises(FileNotFoundError):
            work("records/a/1")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd"])
def test_no_name_leads_outside(storage: ObjectFolder, name: str) -> None:
    for work in (storage.get, storage.list, storage.local, lambda n: storage.put(n, b""),
                 lambda n: storage.put_if_absent(n, b"")):
        with pytest.raises(UnsafeName):
            work(name)


@EACH_SERVER
def test_of_sixteen_racing_writers_one_writes_and_no_entry_of_a_list_is_lost(
    objects_url: str, storage: ObjectFolder
) -> None:
    together = threading.Barrier(16)

    def put(i: int) -> bool:
        together.wait()
        return storage.put_if_absent("tables/x", str(i).encode())

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(put, range(48)))
        assert told.count(True) == 1
        assert storage.get("tables/x") == str(told.index(True)).encode()
        journal = Journal(Layout(objects_url), "constitutions-order.json")
        list(pool.map(lambda i: journal.append(lambda listed: [] if i in listed else [i]), range(16)))
        assert sorted(journal.entries()) == list(range(16))
        made = list(pool.map(lambda i: Records(Layout(objects_url)).add(
            Record(asset="critiques", partition="v", digest=f"t1:{i}", path="tables/x")), range(16)))
    assert sorted(r.number for r in made) == list(range(1, 17))
    assert {r.digest for r in Records(Layout(objects_url)).every("critiques")} == {f"t1:{i}" for i in range(16)}


@OTHER_SERVER_TOO
def test_rows_are_appended_looked_up_elsewhere_and_compacted(
    objects_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(objects_url)
    fill(layout, range(40))
    truth = RowStore(layout).lookup("critique", keys(range(50)))
    assert {r.text for r in truth.values()} == {f"text {i}" for i in range(40)}
    there = elsewhere(objects_url, monkeypatch, tmp_path)
    other = Layout(objects_url)
    assert RowStore(other).lookup("critique", keys(range(50))) == truth
    done = compact(other, "critique", settled=0)
    assert (done.before, done.after) == (8, 1)
    assert len(there.list("rows")) == 1
    for seen in (layout, other):  # one of them has copies of shards that are gone
        assert RowStore(seen).lookup("critique", keys(range(50))) == truth
        assert len(RowStore(seen).shards("critique")) == 1


@OTHER_SERVER_TOO
def test_of_four_writers_one_is_killed_and_only_what_it_had_not_stored_is_missing(objects_url: str) -> None:
    code = f"""
import os, signal, sys
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore, StoredRow
layout, first = Layout({objects_url!r}), int(sys.argv[1])
for start in range(first, first + 40, 5):
    with RowStore(layout).writer("critique") as writer:
        for i in range(start, start + 5):
            writer.add(StoredRow(f"r1:{{i:032x}}", "{{}}", f"text {{i}}", "stop", [], 1, 1))
            if i == 62: os.kill(os.getpid(), signal.SIGKILL)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(first)]) for first in range(0, 160, 40)]
    assert [w.wait() for w in writers] == [0, -9, 0, 0]
    layout = Layout(objects_url)
    missing = keys(range(160)) - RowStore(layout).known("critique", keys(range(160)))
    assert missing == keys(range(60, 80))
    fill(layout, range(60, 80))
    assert [(s.rows, s.shards) for s in stats(layout)] == [(160, 32)]
    assert RowStore(layout).known("critique", keys(range(160))) == keys(range(160))


def test_damage_in_the_object_store_is_found_and_damage_of_a_copy_is_mended(
    objects_url: str, storage: ObjectFolder
) -> None:
    layout = Layout(objects_url)
    fill(layout, range(5))
    (shard,) = RowStore(layout).shards("critique")
    whole = shard.read_bytes()
    shard.write_bytes(b"x" * len(whole))  # the copy
    assert RowStore(layout).known("critique", keys(range(5))) == keys(range(5))
    storage.put(layout.relative(shard), whole[:100] + b"x" + whole[101:])
    assert any(shard.name in problem for problem in verify(layout))


@OTHER_SERVER_TOO
def test_a_folder_appears_with_its_record_and_comes_whole(
    objects_url: str, storage: ObjectFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = tmp_path / "staged"
    (staged / "inner").mkdir(parents=True)
    (staged / "model.safetensors").write_bytes(os.urandom(7 * 2**20))
    (staged / "inner" / "x.json").write_text("{}")
    (staged / "record.json").write_text("{}")
    weights, seen = (staged / "model.safetensors").read_bytes(), list[str]()
    create = ObjectFolder.create

    def watched(self: ObjectFolder, name: str, data: bytes) -> Any:
        seen.extend(e.name for e in self.list("checkpoints"))
        return create(self, name, data)

    monkeypatch.setattr(ObjectFolder, "create", watched)
    assert storage.take(staged, "checkpoints/sl_policy/abc", last="record.json")
    assert seen == ["checkpoints/sl_policy/abc/inner/x.json", "checkpoints/sl_policy/abc/model.safetensors"]
    assert not staged.exists()
    staged.mkdir()
    (staged / "model.safetensors").write_bytes(b"of another")
    (staged / "record.json").write_text("{}")
    assert not storage.take(staged, "checkpoints/sl_policy/abc", last="record.json")
    monkeypatch.setattr(objects, "PART", 2**20 + 1)
    there = elsewhere(objects_url, monkeypatch, tmp_path)
    folder = there.local("checkpoints/sl_policy/abc")
    assert (folder / "model.safetensors").read_bytes() == weights
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == ["model.safetensors", "record.json", "x.json"]
    there.remove("checkpoints/sl_policy/abc")
    assert not list(storage.local("checkpoints/sl_policy/abc").rglob("*.json"))


def test_a_lease_is_held_by_one_given_back_and_taken_from_a_killed_process(
    objects_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWED", 0.5)
    monkeypatch.setattr(leases, "EXPIRES", 3.0)
    layout = Layout(objects_url)
    with alone(layout, "critique"):
        with pytest.raises(Busy), alone(layout, "critique"):
            raise AssertionError
        assert threading.active_count() > 1
    assert layout.storage.list("rows") == []
    code = f"""
import time
from cai_assets.store import leases
leases.RENEWED = 0.5
from cai_assets.store.layout import Layout
with Layout({objects_url!r}).storage.lock("work/a.lock", wait=True):
    print("held", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    with layout.storage.lock("work/a.lock", wait=False) as mine:
        assert mine
        version = open_objects(objects_url).version("work/a.lock")
        time.sleep(1.5)
        assert open_objects(objects_url).version("work/a.lock") != version  # renewed
    assert open_objects(objects_url).version("work/a.lock") is None


def test_parts_of_a_large_object_are_asked_for_at_once_and_all_of_the_same_object(
    objects_url: str, storage: ObjectFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(objects, "PART", 1000)
    old, new = os.urandom(9500), os.urandom(7700)
    storage.put("tables/x", old)
    waiting, asked, part = threading.Barrier(9), list[int](), ObjectFolder._part

    def together(self: ObjectFolder, meta: Any, start: int) -> bytes:
        asked.append(start)
        if len(asked) <= 9:
            waiting.wait()  # none is answered before all are asked for
            if start == 5000:
                storage.put("tables/x", new)
            waiting.wait()
        return part(self, meta, start)

    monkeypatch.setattr(ObjectFolder, "_part", together)
    there = elsewhere(objects_url, monkeypatch, tmp_path)
    assert there.local("tables/x").read_bytes() == new, "not some of one and some of the other"
    assert sorted(asked[:9]) == list(range(1000, 9500, 1000))


class Lax(BaseHTTPRequestHandler):
    """A store that puts whatever the conditions."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_store_without_conditional_puts_or_that_nobody_serves_is_refused_in_one_line(
    objects_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Lax) as lax:
        threading.Thread(target=lax.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{lax.server_port}")
        with pytest.raises(ObjectsUnusable, match="conditional puts") as caught:
            open_objects(f"{objects_url}/lax")
        lax.shutdown()
    assert "\n" not in str(caught.value)
    with pytest.raises(ObjectsUnusable, match="does not do what it is asked") as caught:
        open_objects(f"{objects_url}/nobody")
    assert "\n" not in str(caught.value)


def test_wrong_credentials_are_told_without_them(objects_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(PermissionError, match="may not be read or written") as caught:
        open_objects(objects_url).list("")
    assert "secret" not in str(caught.value).lower().replace("aws_secret", "")


@OTHER_SERVER_TOO
def test_a_root_is_copied_there_and_back_goes_on_and_is_never_mixed(
    objects_url: str, storage: ObjectFolder, tmp_path: Path
) -> None:
    here, back = Layout(tmp_path / "here"), PosixFolder(tmp_path / "back")
    fill(here, range(20))
    records = Records(here)
    digest, _ = records.save_table("critiques", pl.DataFrame({"row_key": sorted(keys(range(20)))}))
    records.add(Record(asset="critiques", partition="v", digest=digest, path=f"tables/critiques/{digest[3:]}.parquet"))
    for name in ("checkpoints/sl_policy/abc/record.json", "checkpoints/sl_policy/abc/model.safetensors",
                 "reports/versions.html", "work/abc/state", "models/smol/config.json"):
        here.storage.put(name, name.encode())
    order: list[str] = []

    class Interrupted(PosixFolder):
        def chunks(self, name: str) -> Iterator[bytes]:
            order.append(name)
            if name.endswith("record.json"):
                raise KeyboardInterrupt
            return super().chunks(name)

    with pytest.raises(KeyboardInterrupt):
        copy_root(Interrupted(here.root), storage)
    assert Records(Layout(objects_url)).assets() == []
    assert order[-1] == "checkpoints/sl_policy/abc/record.json"
    done = copy_root(here.storage, storage)
    assert (done.files, done.left) == (2, ("models", "work"))  # two records: all else was there
    here.storage.put("reports/versions.html", b"rebuilt")
    assert copy_root(here.storage, storage)[::2] == (1, done.files + done.there - 1)
    copy_root(storage, back)
    moved = [e.name for e in here.storage.list("") if not e.name.startswith(("work/", "models/"))]
    assert [e.name for e in back.list("")] == moved
    assert all(back.get(name) == here.storage.get(name) for name in moved)
    storage.put("records/critiques/v/000001.json", b"{}")
    with pytest.raises(CannotCopy, match="in both places and differs"):
        copy_root(here.storage, storage)
    with pytest.raises(CannotCopy, match="no data root"):
        copy_root(PosixFolder(tmp_path / "nothing"), storage)


@OTHER_SERVER_TOO
def test_a_listing_of_many_pages_is_whole(storage: ObjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAGE", 3)
    for i in range(8):
        storage.put(f"rows/x/{i}", b"")
    assert len(storage.list("rows")) == 8
