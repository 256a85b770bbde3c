"""What a version is tested with: the cases of its constitution's tests file as it is now.

A version that was derived from another (``constitution/derive.py``) has the tests of the one it comes from. Cases of
principles that a version does not have are left out, and named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.constitution.cases import Case, cases_path, load_cases
from cai_assets.constitution.model import Constitution
from cai_assets.pipeline.project import Project
from cai_assets.versions.derived import Derivations

POLICY = "rl_policy"  # whose own answers are tested


class Tests(NamedTuple):
    """The cases of a version. ``left_out``: those whose principle it does not have. ``digest``: of the whole file."""

    path: Path
    digest: str
    cases: tuple[Case, ...]
    left_out: tuple[Case, ...]
    untested: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As a record keeps it."""
        return {"file": self.path.name, "digest": self.digest, "cases": [c.id for c in self.cases],
                "left_out": [c.id for c in self.left_out], "untested": list(self.untested)}

    @classmethod
    def read(cls, path: Path, constitution: Constitution) -> Tests:
        """Raise CasesError for a file that cannot be used."""
        found = load_cases(path)
        cases, left_out = found.of(constitution)
        return cls(path, found.digest, cases, left_out, tuple(found.untested(constitution)))


def tests_path(project: Project, version: str) -> Path:
    """Where the tests of a registered version, or of a round of it, are, if there are any. Raise UnknownVersion."""
    derivations = Derivations(project.layout)
    while origin := derivations.origin(version):
        version = origin.version
    return cases_path(project.settings.constitutions, project.snapshots.load(version).name)


def tests_of(project: Project, version: str) -> Tests | None:
    """The tests of a registered version; None if its constitution has no file of tests. Raise CasesError."""
    path = tests_path(project, version)
    return Tests.read(path, project.snapshots.load(version)) if path.exists() else None
