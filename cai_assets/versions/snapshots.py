"""Snapshots: the immutable content of every registered constitution version.

A version is registered by storing its snapshot first and adding the Dagster partition second, so a
partition can be materialized and traced after its file was edited or removed. The order of registration is
stored in ``constitutions-order.json``: the times of files do not survive copying.
"""

from __future__ import annotations

from pathlib import Path, PurePath

from cai_assets.constitution.digest import digest, partition_key
from cai_assets.constitution.files import constitution_files, twice
from cai_assets.constitution.load import ConstitutionError, load_file
from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.store.journal import Journal
from cai_assets.store.layout import Layout, safe_name
from cai_assets.store.storage import UnsafeName
from cai_assets.versions.rounds import round_of

FOLDER, ORDER = "constitutions", "constitutions-order.json"
VERSIONS = "constitution_version"  # the name of Dagster's dynamic partitions


class UnknownVersion(CaiError, LookupError):
    """No registered constitution version has that name."""


class KeyTaken(CaiError, ValueError):
    """Another constitution has that partition key already."""


class Snapshots:
    """Registered constitution versions under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._storage = layout.storage
        self._order = Journal(layout, ORDER)

    def register(self, constitution: Constitution) -> str:
        """Store the snapshot if it is new; return its partition key.

        Raise KeyTaken if the key is that of a constitution of another name, version or content.
        """
        key = partition_key(constitution)
        if not self._storage.put_if_absent(snapshot_name(key), constitution.model_dump_json(indent=1).encode()):
            _same(self.load(key), constitution, key)
        self._order.append(self._unlisted)
        return key

    def register_round(self, key: str) -> None:
        """List a later round of a registered version. Raise UnknownVersion if the version is not registered."""
        self.load(key)
        self._order.append(lambda listed: [] if key in listed else [key])

    def load(self, key: str) -> Constitution:
        """The constitution of a version or a round of it, as registered. Raise UnknownVersion, naming what is known."""
        try:
            return parse_snapshot(self._storage.get(snapshot_name(key)))
        except (FileNotFoundError, UnsafeName):
            known = ", ".join(self.known()) or "none yet"
            raise UnknownVersion(f"no registered constitution {key!r}. Known: {known}. "
                                 "Register a file with: cai register") from None

    def known(self) -> list[str]:
        """Partition keys, oldest registration first."""
        listed, there = self._order.entries(), set(self._there())
        return [key for key in listed if round_of(key).version in there] + self._unlisted(listed)

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
    """A snapshot as it was stored. Raise ValidationError."""
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
