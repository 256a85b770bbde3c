"""Snapshots: the immutable content of every registered constitution version.

A version is registered by storing its snapshot first and adding the Dagster partition second, so a
partition can be materialized and traced after its file was edited or removed. The key ends with the digest of what
counts in it, and whenever a snapshot is read it is compared with that. The order of registration is stored in
``constitutions-order.json``: the times of files do not survive copying.
"""

from __future__ import annotations

from pathlib import Path, PurePath

from cai_assets.constitution.digest import digest, partition_key
from cai_assets.constitution.files import constitution_files, twice
from cai_assets.constitution.load import ConstitutionError, load_file
from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.store import this_run
from cai_assets.store.damaged import set_aside
from cai_assets.store.journal import Journal
from cai_assets.store.json_text import parse_json
from cai_assets.store.layout import Layout, safe_name
from cai_assets.store.storage import UnsafeName
from cai_assets.versions.rounds import round_of

FOLDER, ORDER = "constitutions", "constitutions-order.json"
VERSIONS = "constitution_version"  # the name of Dagster's dynamic partitions


class UnknownVersion(CaiError, LookupError):
    """No registered constitution version has that name."""


class KeyTaken(CaiError, ValueError):
    """Another constitution has that partition key already."""


class SnapshotDamaged(CaiError, ValueError):
    """A snapshot is not what its key says. The message names the file and what to do."""


class Snapshots:
    """Registered constitution versions under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._layout, self._storage = layout, layout.storage
        self._order = Journal(layout, ORDER)

    def register(self, constitution: Constitution) -> str:
        """Store the snapshot if it is new, or if the one that is there is damaged; return its partition key.

        Raise KeyTaken if the key is that of a constitution of another name, version or content.
        """
        key = partition_key(constitution)
        data = constitution.model_dump_json(indent=1).encode()
        if not self._storage.put_if_absent(snapshot_name(key), data):
            try:
                _same(self.load(key), constitution, key)
            except SnapshotDamaged:
                self._repair(key, data)
        self._order.append(self._unlisted)
        return key

    def register_round(self, key: str) -> None:
        """List a later round of a registered version. Raise UnknownVersion if the version is not registered."""
        self.load(key)
        self._order.append(lambda listed: [] if key in listed else [key])

    def load(self, key: str) -> Constitution:
        """The constitution of a version or a round of it, as registered.

        Raise UnknownVersion, naming what is known, or SnapshotDamaged.
        """
        try:
            return self._intact(round_of(key).version, self._storage.get(snapshot_name(key)))
        except (FileNotFoundError, UnsafeName):
            known = ", ".join(self.known()) or "none yet"
            raise UnknownVersion(f"no registered constitution {key!r}. Known: {known}. "
                                 "Register a file with: cai register") from None

    def _intact(self, version: str, data: bytes) -> Constitution:
        try:
            constitution = parse_snapshot(data)
            what = f"has the content of {partition_key(constitution)}"
        except ValueError as e:
            constitution, what = None, f"cannot be read: {str(e).splitlines()[0]}"
        if constitution is None or partition_key(constitution) != version:
            raise SnapshotDamaged(
                f"{self._layout.path(snapshot_name(version))} is not as it was registered ({what}): restore it from a "
                "copy, or from the constitution file it was made of (cai register); without either, move it away")
        return constitution

    def _repair(self, key: str, data: bytes) -> None:
        name = snapshot_name(key)
        aside = set_aside(self._layout, self._layout.path(name))
        self._storage.put_if_absent(name, data)
        this_run.tell(f"{self._layout.path(name)} was damaged and is stored again; the damaged one is set aside as "
                      f"{aside}")

    def newest_of(self, name: str) -> Constitution | None:
        """The version of that key, or the newest of the constitution of that name; None if neither is registered."""
        name = PurePath(name).stem  # a file is named by its path, too
        found = (self.load(key) for key in reversed(self.known()) if key == name or key.startswith(f"{name}-"))
        return next((c for c in found if name in {c.name, partition_key(c)}), None)

    def known(self) -> list[str]:
        """Partition keys, oldest registration first."""
        listed, there = self._order.entries(), set(self._there())
        return [key for key in listed if round_of(key).version in there] + self._unlisted(listed)

    def times(self) -> dict[str, float]:
        """When each version was registered, in seconds since 1970: the time of its file, which a copy may not keep."""
        return self._there()

    def _unlisted(self, listed: list[str]) -> list[str]:
        """Snapshots without a place in the stored order (older data roots, a crash), by the time of their file."""
        there, known = self._there(), set(listed)
        return sorted(there.keys() - known, key=lambda key: (there[key], key))

    def _there(self) -> dict[str, float]:
        """Versions that have a snapshot, and the time of their file."""
        return {PurePath(e.name).stem: e.modified for e in self._storage.list(FOLDER) if e.name.endswith(".json")}


def snapshot_name(key: str) -> str:
    """Where the snapshot of a version, or of a round of it, lies under the data root. Raise UnsafeName."""
    return f"{FOLDER}/{safe_name(f'{round_of(key).version}.json')}"


def parse_snapshot(data: bytes) -> Constitution:
    """A snapshot as it was stored. Raise ValueError."""
    parse_json(data)
    return Constitution.model_validate_json(data, strict=False)


def _same(taken: Constitution, new: Constitution, key: str) -> None:
    if (taken.name, taken.version, digest(taken)) != (new.name, new.version, digest(new)):
        raise KeyTaken(f"{new.name!r} version {new.version!r} would get the key {key!r}, which {taken.name!r} version "
                       f"{taken.version!r} has already: choose another version label, or rename the file")


def scan(folder: Path) -> tuple[list[Constitution], list[str]]:
    """Load every constitution file of a folder. A broken file is reported, and does not hide the others."""
    files = constitution_files(folder)
    good, problems = [], list((repeated := twice(files)).values())
    if not files:
        problems.append(f"no constitution files (*.yaml, *.yml) in {folder.resolve()}")
    for path in (p for p in files if p not in repeated):
        try:
            good.append(load_file(path))
        except (ConstitutionError, OSError) as e:
            problems.append(str(e))
    return good, problems
