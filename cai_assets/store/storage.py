"""The interface to where bytes are: everything the store needs from it, and the POSIX folder that implements it.

A blob's name is its path under the data root, with '/'. Records, tables, snapshots and lists use only these
methods. Shards and checkpoints are opened by libraries, in folders that ``local`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from cai_assets.errors import CaiError
from cai_assets.store.files import sync_folder, write_atomic, write_once


class UnsafeName(CaiError, ValueError):
    """A name that may not become part of a path."""


class Entry(NamedTuple):
    """A blob that is there. ``size`` in bytes; ``modified``: seconds since 1970."""

    name: str
    size: int
    modified: float


class Storage(Protocol):
    """Whole blobs by name. Raise UnsafeName for a name that leads outside."""

    def get(self, name: str) -> bytes:
        """All of a blob. Raise FileNotFoundError."""

    def put(self, name: str, data: bytes) -> None:
        """Write or replace: a reader sees the old blob or the whole new one."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write a blob that does not exist yet; False if it does. Of two concurrent writers, one gets True."""

    def list(self, name: str) -> list[Entry]:
        """The blob of that name, or all below that folder, by the parts of their names. Nothing half-written."""

    def delete(self, name: str) -> None:
        """Remove a blob; nothing happens if it is gone already."""

    def local(self, name: str) -> Path:
        """Where a library can open a blob or folder, and write one that is not there yet."""


class PosixFolder:
    """Storage in one folder of a POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, name: str) -> bytes:
        return self.local(name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        write_atomic(self.local(name), data)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return write_once(self.local(name), data)

    def list(self, name: str) -> list[Entry]:
        path = self.local(name)
        entries = _below(path, name) if path.is_dir() else _entry(path, name)
        return sorted(entries, key=lambda e: e.name.split("/"))

    def delete(self, name: str) -> None:
        path = self.local(name)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)

    def local(self, name: str) -> Path:
        path = Path(os.path.normpath(self.root / name))
        if not path.is_relative_to(self.root):
            raise UnsafeName(f"{name!r} leads outside {self.root}")
        return path


def _below(folder: Path, name: str) -> Iterator[Entry]:
    try:
        items = [i for i in os.scandir(folder) if not i.name.startswith(".")]
    except FileNotFoundError:  # removed while we listed
        return
    for item in items:
        inner = f"{name}/{item.name}"
        yield from _below(folder / item.name, inner) if item.is_dir() else _entry(folder / item.name, inner)


def _entry(path: Path, name: str) -> Iterator[Entry]:
    try:
        state = path.stat()
    except FileNotFoundError:
        return
    yield Entry(name, state.st_size, state.st_mtime)
