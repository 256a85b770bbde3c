"""Snapshots: the immutable content of every registered constitution version.

A version is registered by storing its snapshot first and adding the Dagster partition second, so a
partition can be materialised and traced after its file was edited or removed. The order of registration is
stored in ``constitutions-order.json``: the times of files do not survive copying.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cai_assets.constitution.digest import digest, partition_key
from cai_assets.constitution.load import ConstitutionError, load_file
from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.store.layout import Layout, UnsafeName, write_atomic
from cai_assets.versions.rounds import round_of

VERSIONS = "constitution_version"  # the name of Dagster's dynamic partitions


class UnknownVersion(CaiError, LookupError):
    """No registered constitution version has that name."""


class KeyTaken(CaiError, ValueError):
    """Another constitution has that partition key already."""


class Journal:
    """A JSON list that only grows. Readers see it whole; of two processes that append at once, none loses its entry."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[Any]:
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError as e:
            raise ValueError(f"{self._path} is not JSON ({e}): restore it, or move it away") from None
        return list(found)

    def append(self, missing: Callable[[list[Any]], Sequence[Any]]) -> bool:
        """Append what ``missing`` finds missing in the newest entries; return whether that was anything."""
        if not missing(self.entries()):
            return False
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self.entries()
            new = list(missing(entries))
            if new:
                write_atomic(self._path, json.dumps([*entries, *new], indent=1).encode())
        return bool(new)


class Snapshots:
    """Registered constitution versions under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._order = Journal(layout.file("constitutions-order.json"))

    def register(self, constitution: Constitution) -> str:
        """Store the snapshot if it is new; return its partition key.

        Raise KeyTaken if the key is that of a constitution of another name, version or content.
        """
        key = partition_key(constitution)
        path = self._path(key)
        if path.exists():
            _same(self.load(key), constitution, key)
        else:
            write_atomic(path, constitution.model_dump_json(indent=1).encode())
        self._order.append(self._unlisted)
        return key

    def register_round(self, key: str) -> None:
        """List a later round of a registered version. Raise UnknownVersion if the version is not registered."""
        self.load(key)
        self._order.append(lambda listed: [] if key in listed else [key])

    def load(self, key: str) -> Constitution:
        """The constitution of a version or a round of it, as registered. Raise UnknownVersion, naming what is known."""
        try:
            return Constitution.model_validate_json(self._path(key).read_bytes(), strict=False)
        except (FileNotFoundError, UnsafeName):
            known = ", ".join(self.known()) or "none yet"
            raise UnknownVersion(f"no registered constitution {key!r}. Known: {known}. "
                                 "Register a file with: cai register") from None

    def known(self) -> list[str]:
        """Partition keys, oldest registration first."""
        listed = self._order.entries()
        return [key for key in listed if self._path(key).exists()] + self._unlisted(listed)

    def _unlisted(self, listed: list[str]) -> list[str]:
        """Snapshots without a place in the stored order (older data roots, a crash), by the time of their file."""
        known = set(listed)
        paths = [p for p in self._layout.folder("constitutions").glob("*.json") if p.stem not in known]
        return [p.stem for p in sorted(paths, key=lambda p: (p.stat().st_mtime_ns, p.name))]

    def _path(self, key: str) -> Path:
        return self._layout.file("constitutions", f"{round_of(key).version}.json")


def _same(known: Constitution, new: Constitution, key: str) -> None:
    if (known.name, known.version, digest(known)) != (new.name, new.version, digest(new)):
        raise KeyTaken(f"{new.name!r} version {new.version!r} would get the key {key!r}, which {known.name!r} version "
                       f"{known.version!r} has already: choose another version label, or rename the file")


def constitution_files(folder: Path) -> list[Path]:
    """The constitution files of a folder, by name; files of constitution tests are not among them."""
    return sorted(p for p in folder.glob("*.yaml") if not p.name.endswith(".tests.yaml"))


def scan(folder: Path) -> tuple[list[Constitution], list[str]]:
    """Load every constitution file of a folder. A broken file is reported, and does not hide the others."""
    good, problems = [], []
    files = constitution_files(folder)
    if not files:
        problems.append(f"no constitution files (*.yaml) in {folder.resolve()}")
    for path in files:
        try:
            good.append(load_file(path))
        except (ConstitutionError, OSError) as e:
            problems.append(str(e))
    return good, problems
