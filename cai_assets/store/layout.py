"""Where things lie under the data root, and the one allow-list through which names become paths.

::

    models/<name>/                      base models made ready to load
    rows/<step>/<shard>.parquet         the row store
    tables/<asset>/<digest>.parquet     what assets hold, named by content
    checkpoints/<kind>/<key>/           trained models, named by what they were made from
    records/<asset>/<partition>/*.json  one per materialisation, never changed
    constitutions/<partition>.json      snapshots of registered constitution versions
    constitutions-order.json            the order in which they were registered
    constitutions-archived.json         which are archived
    constitutions-derived.json          which were derived from another one, for comparison
    reports/                            pages, made anew from records
    work/                               unfinished work, safe to delete when nothing runs
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

from cai_assets.errors import CaiError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


class UnsafeName(CaiError, ValueError):
    """A name that may not become part of a path."""


def safe_name(name: str) -> str:
    """Return ``name`` if it may be a file or folder name; raise UnsafeName otherwise."""
    if not NAME.fullmatch(name) or ".." in name or name.endswith("."):
        raise UnsafeName(f"{name!r} cannot be a file name: use a-z, 0-9, '-', '_' and '.', and begin with a-z or 0-9")
    return name


class Layout:
    """Paths under one data root. Folders are made when asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()

    def folder(self, *names: str) -> Path:
        """A folder under the root, made if missing; every part must be a safe name."""
        path = self.root.joinpath(*(safe_name(n) for n in names))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, *names: str) -> Path:
        """A file path under the root, its folder made if missing."""
        return self.folder(*names[:-1]) / safe_name(names[-1])

    def relative(self, path: Path) -> str:
        """The path as stored in records: relative to the root, with '/'."""
        return path.resolve().relative_to(self.root).as_posix()

    def absolute(self, stored: str) -> Path:
        """Undo ``relative``; refuse what leads outside the root."""
        path = (self.root / stored).resolve()
        if not path.is_relative_to(self.root):
            raise UnsafeName(f"{stored!r} leads outside {self.root}")
        return path


def write_atomic(path: Path, data: bytes) -> None:
    """Write so that a reader sees the old file or the whole new one, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
