"""What the store asks of storage, of the POSIX folder; and locks that a killed process drops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cai_assets.store.files import if_unlocked, locked
from cai_assets.store.layout import Layout
from cai_assets.store.storage import PosixFolder, Storage, UnsafeName


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return PosixFolder(tmp_path)


def names(storage: Storage, name: str) -> list[str]:
    return [e.name for e in storage.list(name)]


def test_a_blob_is_put_replaced_and_deleted(storage: Storage) -> None:
    storage.put("records/a/all/000001.json", b"old")
    storage.put("records/a/all/000001.json", b"newer")
    assert storage.get("records/a/all/000001.json") == b"newer"
    (entry,) = storage.list("records/a/all/000001.json")
    assert (entry.name, entry.size) == ("records/a/all/000001.json", 5)
    assert abs(entry.modified - time.time()) < 60
    storage.delete("records/a/all/000001.json")
    storage.delete("records/a/all/000001.json")
    assert storage.list("records") == []
    with pytest.raises(FileNotFoundError):
        storage.get("records/a/all/000001.json")


def test_what_is_there_stays_and_of_many_one_writes(storage: Storage, tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda i: storage.put_if_absent("tables/x.parquet", str(i).encode()), range(64)))
    assert told.count(True) == 1
    assert storage.get("tables/x.parquet") == str(told.index(True)).encode()
    assert [p.name for p in (tmp_path / "tables").iterdir()] == ["x.parquet"]


def test_a_listing_is_ordered_by_parts_and_shows_nothing_half_written(storage: Storage, tmp_path: Path) -> None:
    for name in ("records/a-r2/1", "records/a/2", "records/a/1", "rows/1"):
        storage.put(name, b"")
    (tmp_path / "records" / "a" / ".3.0123.tmp").write_bytes(b"half")
    assert names(storage, "records") == ["records/a/1", "records/a/2", "records/a-r2/1"]
    assert names(storage, "nothing") == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd"])
def test_no_name_leads_outside(storage: Storage, name: str) -> None:
    for work in (storage.get, storage.list, storage.delete, storage.local):
        with pytest.raises(UnsafeName):
            work(name)
    with pytest.raises(UnsafeName):
        storage.put_if_absent(name, b"")


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    assert not layout.has("records", "prompts")
    assert not layout.root.exists()


def test_a_lock_is_held_by_one_and_dropped_by_a_killed_process(tmp_path: Path) -> None:
    lock = tmp_path / "work" / "a.lock"
    code = f"""
import time
from pathlib import Path
from cai_assets.store.files import locked
with locked(Path({str(lock)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with if_unlocked(lock) as mine:
            assert not mine
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with locked(lock):  # waits for nobody
        pass
    assert lock.exists()  # for whoever waits on it
