"""Where everything is under the data root, and the one allow-list through which names become paths.

::

    models/<name>/                      base models made ready to load
    rows/<step>/<shard>.parquet         the row store
    tables/<asset>/<digest>.parquet     what assets hold, named by content
    checkpoints/<kind>/<key>/           trained models, named by what they were made from
    records/<asset>/<partition>/*.json  one per materialization, never changed
    constitutions/<partition>.json      snapshots of registered constitution versions
    constitutions-order.json            the order in which they were registered
    constitutions-archived.json         which are archived
    constitutions-derived.json          which were derived from another one, for comparison
    human-comparisons.json              what people preferred in the studio's arena
    reports/                            pages, rebuilt from records
    damaged/                            what was not as it was written, set aside: never read, delete it when you like
    work/                               unfinished work, safe to delete when nothing runs
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cai_assets.store.files import write_atomic
from cai_assets.store.objects import open_objects
from cai_assets.store.storage import PosixFolder, Storage, UnsafeName

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


def safe_name(name: str) -> str:
    """Return ``name`` if it may be a file or folder name; raise UnsafeName otherwise."""
    if not NAME.fullmatch(name) or ".." in name or name.endswith("."):
        raise UnsafeName(f"{name!r} cannot be a file name: use a-z, 0-9, '-', '_' and '.', and begin with a-z or 0-9")
    return name


class Layout:
    """Paths under one data root, a folder or a URL of an object store. Folders are made when asked for."""

    def __init__(self, root: Path | str) -> None:
        self.storage: Storage = open_storage(root)
        self.root = self.storage.root

    def has(self, *names: str) -> bool:
        """Whether there is a blob of that name, or one below it."""
        return bool(self.storage.list("/".join(names)))

    def path(self, *names: str) -> Path:
        """What a message or a library calls a blob or folder, there or not; without names, the data root."""
        return self.root.joinpath(*names)

    def folder(self, *names: str) -> Path:
        """A folder under the root, made if missing; every part must be a safe name."""
        path = self.root.joinpath(*(safe_name(n) for n in names))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def local(self, *names: str) -> Path:
        """A folder under the root, made if missing, with all that is in it on this machine."""
        self.storage.local("/".join(safe_name(n) for n in names))
        return self.folder(*names)

    def file(self, *names: str) -> Path:
        """A file path under the root, its folder made if missing."""
        return self.folder(*names[:-1]) / safe_name(names[-1])

    def relative(self, path: Path) -> str:
        """The path as stored in records: relative to the root, with '/'. Links below the root are left as they are: a
        checkpoint may have been moved to a larger disk."""
        path = Path(os.path.normpath(path))
        below = path if path.is_relative_to(self.root) else path.resolve()
        return below.relative_to(self.root).as_posix()

    def absolute(self, stored: str) -> Path:
        """Undo ``relative``: where a library can open it. Raise UnsafeName for what leads outside the root."""
        return self.storage.local(stored)

    def write(self, path: Path, data: bytes) -> None:
        """Write or replace a file, under the root or elsewhere, atomically."""
        if path.is_relative_to(self.root):
            self.storage.put(self.relative(path), data)
        else:
            write_atomic(path, data)


def open_storage(root: Path | str) -> Storage:
    """The storage of a data root: a folder, or the URL of an object store. Raise UnsafeName or ObjectsUnusable."""
    if "://" in str(root):
        return open_objects(str(root))
    try:
        return PosixFolder(Path(root).expanduser().resolve())
    except RuntimeError as e:  # a home that nobody has, or links in a circle
        raise UnsafeName(f"the data root {root} leads nowhere ({e}): set CAI_DATA_ROOT to another folder") from None
