"""How the versions of constitutions stand: what of each is made, which is current, archived, or derived."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from cai_assets.assets import EVERY
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.file_text import FileError
from cai_assets.constitution.files import constitution_files
from cai_assets.constitution.load import load_file
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.project import Project
from cai_assets.versions.archive import Archive
from cai_assets.versions.derived import Derivations

VERSIONED = frozenset(asset.name for asset in EVERY if asset.versioned)


class Standing(NamedTuple):
    """A version. ``made``: how many of its assets have a record, ``of`` those that it has; ``note``: 'current',
    'archived', or what it is of."""

    version: str
    made: int
    note: str
    of: int


def current_files(project: Project) -> Iterator[tuple[str, str]]:
    """The name of each constitution file that can be read, and the version that it is now."""
    for path in constitution_files(project.settings.constitutions):
        try:
            yield path.stem, partition_key(load_file(path))
        except FileError:
            continue  # 'cai lint' says what is wrong with it


def standings(project: Project, current: Collection[str] = ()) -> Iterator[Standing]:
    """Every version, newest first. ``current``: those that files are now."""
    archived = Archive(project.layout).archived()
    derived = {o.key: o.version for o in Derivations(project.layout).origins()}
    made: dict[str, set[str]] = {}
    for asset in VERSIONED:
        for partition in project.records.partitions(asset):
            made.setdefault(partition, set()).add(asset)
    for version in reversed(project.snapshots.known()):
        note = ("archived" if version in archived else f"of {derived[version]}" if version in derived
                else "current" if version in current else "")
        own = made.get(version, set())
        yield Standing(version, len(own), note, len(VERSIONED - (absent(project.snapshots.load(version)) - own)))
