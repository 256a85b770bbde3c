"""Copies of objects in a folder of this machine, for libraries that open files: each as good as its object's tag.

An object store gives every content of an object a tag (ETag). Beside a copy lies the tag that its object had, with all
that the system said of the copy then: a copy that was changed here, or whose object was replaced, is not used.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cai_assets.store.files import writing
from cai_assets.store.storage import path_below

TAGS = ".tags"


class Copies:
    """Copies of the objects below one URL, in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where the copy of an object, or of a folder of objects, is or will be. Raise UnsafeName."""
        return path_below(self.root, name)

    def fresh(self, name: str, tag: str) -> bool:
        """Whether the copy is there, and of the object with that tag."""
        try:
            return self._tag(name).read_text(encoding="utf-8") == _state(self.path(name), tag)
        except OSError:
            return False

    def keep(self, name: str, tag: str, data: Iterable[bytes]) -> None:
        """Write the copy of an object."""
        path = self.path(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("xb") as file:
                    file.writelines(data)
            self.adopt(name, tag, temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def adopt(self, name: str, tag: str, file: Path) -> None:
        """Make a file of this machine the copy of the object that was made of it."""
        path, note = self.path(name), self._tag(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_name(f".{uuid.uuid4().hex}.tmp")
        temporary.write_text(_state(file, tag), encoding="utf-8")
        os.replace(temporary, note)
        os.replace(file, path)

    def drop(self, name: str) -> None:
        """Remove the copy of an object that is gone."""
        for path in (self.path(name), self._tag(name)):
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):  # a folder of that name
                path.unlink()

    def below(self, name: str) -> list[str]:
        """Names of the copies in a folder."""
        notes = [p for p in self._tag(name).rglob("*") if p.is_file() and p.suffix != ".tmp"]
        return [p.relative_to(self.root / TAGS).as_posix() for p in notes]

    def _tag(self, name: str) -> Path:
        return path_below(self.root / TAGS, name)


def _state(path: Path, tag: str) -> str:
    said = path.stat()
    return json.dumps([tag, said.st_size, said.st_mtime_ns, said.st_ino])
