"""Snapshots: the immutable content of every registered constitution version.

A version is registered by storing its snapshot first and adding the Dagster partition second, so a
partition can be materialised and traced after its file was edited or removed.
"""

from __future__ import annotations

from pathlib import Path

from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.load import ConstitutionError, load_file
from cai_assets.constitution.model import Constitution
from cai_assets.lineage.layout import Layout, UnsafeName, write_atomic


class UnknownVersion(LookupError):
    """No registered constitution version has that name."""


class Snapshots:
    """Registered constitution versions under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def register(self, constitution: Constitution) -> str:
        """Store the snapshot if it is new; return its partition key."""
        key = partition_key(constitution)
        path = self._path(key)
        if not path.exists():
            write_atomic(path, constitution.model_dump_json(indent=1).encode())
        return key

    def load(self, key: str) -> Constitution:
        """The constitution as registered. Raise UnknownVersion, naming what is known."""
        try:
            return Constitution.model_validate_json(self._path(key).read_bytes(), strict=False)
        except (FileNotFoundError, UnsafeName):
            known = ", ".join(self.known()) or "none yet"
            raise UnknownVersion(f"no registered constitution {key!r}. Known: {known}. "
                                 "Register a file with: cai register") from None

    def known(self) -> list[str]:
        """Partition keys, oldest registration first."""
        folder = self._layout.folder("constitutions")
        return [p.stem for p in sorted(folder.glob("*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name))]

    def _path(self, key: str) -> Path:
        return self._layout.file("constitutions", f"{key}.json")


def scan(folder: Path) -> tuple[list[Constitution], list[str]]:
    """Load every constitution file of a folder. A broken file is reported, and does not hide the others."""
    good, problems = [], []
    files = sorted(p for p in folder.glob("*.yaml") if not p.name.endswith(".tests.yaml"))
    if not files:
        problems.append(f"no constitution files (*.yaml) in {folder.resolve()}")
    for path in files:
        try:
            good.append(load_file(path))
        except (ConstitutionError, OSError) as e:
            problems.append(str(e))
    return good, problems
