"""The interface to where bytes are: everything the store needs from it, and the POSIX folder that implements it.

A blob's name is its path under the data root, with '/'. Records, tables, snapshots and lists are blobs. Shards and
checkpoints are opened by libraries, where ``local`` brings them, and written in a local folder, from which ``take``
takes them. ``objects.py`` implements the same on object storage.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from cai_assets.errors import CaiError
from cai_assets.store.files import State, if_unlocked, locked, sync_folder, write_atomic, write_once
from cai_assets.store.folders import move

CHUNK = 8 * 2**20  # bytes


class UnsafeName(CaiError, ValueError):
    """A name that may not become part of a path."""


class Entry(NamedTuple):
    """A blob that is there. ``size`` in bytes; ``modified``: seconds since 1970; ``tag``: another after each write."""

    name: str
    size: int
    modified: float
    tag: str


class Storage(Protocol):
    """Whole blobs by name. Raise UnsafeName for a name that leads outside."""

    root: Path
    """The folder of this machine in which ``local`` has its paths."""

    def get(self, name: str) -> bytes:
        """All of a blob. Raise FileNotFoundError."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """All of a blob, some megabytes at a time. Raise FileNotFoundError."""

    def put(self, name: str, data: bytes | Iterable[bytes]) -> None:
        """Write or replace: a reader sees the old blob or the whole new one."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write a blob that does not exist yet; False if it does. Of two concurrent writers, one gets True."""

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        """Put what ``change`` makes of a blob (None: there is none); if that is None, nothing, and return False.

        Of two concurrent changes, one is made on top of the other.
        """

    def list(self, name: str) -> list[Entry]:
        """The blob of that name, or all below that folder, by the parts of their names. Nothing half-written, and
        nothing hidden: no part of a name that begins with a dot."""

    def folders(self, name: str) -> Sequence[str]:
        """Names of the folders right below a folder, by themselves, in order."""

    def delete(self, *names: str) -> None:
        """Remove blobs; nothing happens if they are gone already."""

    def local(self, name: str) -> Path:
        """Where a library can open a blob or folder as it is now, and write one that is not there yet."""

    def take(self, source: Path, name: str, *, last: str = "") -> bool:
        """Give a local file, or folder, the name. It appears complete: the file ``last`` of a folder is in it only when
        all others are. The source is gone afterwards. False if another has taken the name, which keeps what it has."""

    def move(self, name: str, to: str) -> None:
        """Give a blob, or a folder, another name, so that a part never passes for the whole."""

    def remove(self, name: str) -> None:
        """Remove a folder, so that a part of it never passes for the whole."""

    def lock(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold a lock that no one else holds, and that is free again when its process has died; whether it is held,
        which without ``wait`` it may not be."""


class PosixFolder:
    """Storage in one folder of a POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, name: str) -> bytes:
        return self.local(name).read_bytes()

    def chunks(self, name: str) -> Iterator[bytes]:
        with self.local(name).open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def put(self, name: str, data: bytes | Iterable[bytes]) -> None:
        write_atomic(self.local(name), data)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return write_once(self.local(name), data)

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        path = self.local(name)
        with locked(path.with_name(f"{path.name}.lock")):
            new = change(path.read_bytes() if path.exists() else None)
            if new is not None:
                self.put(name, new)
        return new is not None

    def list(self, name: str) -> list[Entry]:
        path = self.local(name)
        entries = _below(path, name) if path.is_dir() else _entry(path, name)
        return sorted(entries, key=lambda e: e.name.split("/"))

    def folders(self, name: str) -> Sequence[str]:
        path = self.local(name)
        try:
            return sorted(p.name for p in path.iterdir() if p.is_dir())
        except FileNotFoundError:
            return []

    def delete(self, *names: str) -> None:
        paths = [self.local(name) for name in names]
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths if path.parent.is_dir()}:
            sync_folder(folder)

    def local(self, name: str) -> Path:
        return path_below(self.root, name)

    def take(self, source: Path, name: str, *, last: str = "") -> bool:
        path = self.local(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        move(source, path)
        return True

    def move(self, name: str, to: str) -> None:
        self.take(self.local(name), to)

    def remove(self, name: str) -> None:
        away = f"work/removed-{uuid.uuid4().hex}"
        self.move(name, away)
        shutil.rmtree(self.local(away))

    @contextmanager
    def lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        path = self.local(name)
        if wait:
            with locked(path):
                yield True
        else:
            with if_unlocked(path) as mine:
                yield mine


def path_below(root: Path, name: str) -> Path:
    """The path of a name. Raise UnsafeName for one that leads outside."""
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(root):
        raise UnsafeName(f"{name!r} leads outside {root}")
    return path


def _below(folder: Path, name: str) -> Iterator[Entry]:
    try:
        items = [i for i in os.scandir(folder) if not i.name.startswith(".")]
    except FileNotFoundError:  # removed while we listed
        return
    for item in items:
        inner = f"{name}/{item.name}" if name else item.name
        yield from _below(folder / item.name, inner) if item.is_dir() else _entry(folder / item.name, inner)


def _entry(path: Path, name: str) -> Iterator[Entry]:
    try:
        state = path.stat()
    except FileNotFoundError:
        return
    yield Entry(name, state.st_size, state.st_mtime, "-".join(map(str, State.said(state))))
