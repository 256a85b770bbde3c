"""Rows by name: this package's own, and those that other installed packages add by an entry point.

A row states facts, and names code as ``module:name``, which is imported when it is first used. So a name can be
checked, and the code location opened, without torch. A package adds a row under the registry's ``group``: the entry
point's name is the row's name, and its object the row. Nothing here imports anything of ours but the base error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, NamedTuple, TypeVar

from cai_assets.errors import CaiError

Row = TypeVar("Row")


class NotRegistered(CaiError, ValueError):
    """There is no row of this name, or the package that adds it is broken. The message says what to do."""


class Origin(NamedTuple):
    """The installed distribution that adds a row."""

    distribution: str
    version: str


def load(reference: str) -> Any:
    """The object that ``module:name`` names, imported now."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Registry(Generic[Row]):
    """``what``: the noun in errors. ``group``: of entry points that add rows; None: closed to other packages."""

    what: str
    kind: type[Row]
    own: Mapping[str, Row]
    group: str | None = None

    def names(self) -> tuple[str, ...]:
        """Every name, our own first."""
        return (*self.own, *(name for name in sorted(self._added()) if name not in self.own))

    def check(self, name: str, *others: str) -> str:
        """The name itself. Raise NotRegistered, which lists all names, unless it has a row or is one of ``others``."""
        if name not in (*others, *self.own) and name not in self._added():
            raise NotRegistered(f"{name!r} is no {self.what}: choose one of {', '.join((*others, *self.names()))}"
                                + (f", or install the package that adds it ({self.group})" if self.group else ""))
        return name

    def __getitem__(self, name: str) -> Row:
        """The row. Raise NotRegistered if there is none, or if what an installed package added is not one."""
        if name in self.own:
            return self.own[name]
        entry = self._added()[self.check(name)]
        try:
            row = entry.load()
        except Exception as e:  # whatever importing third-party code may raise
            raise NotRegistered(f"{self._named(entry)} does not load ({type(e).__name__}: {e}): fix or uninstall "
                                "that package") from e
        if not isinstance(row, self.kind):
            raise NotRegistered(f"{self._named(entry)} is a {type(row).__name__} and must be a "
                                f"{self.kind.__module__}.{self.kind.__name__}")
        return row

    def find(self, name: str) -> Row | None:
        """The row, or None: for a name in a record whose package may be gone."""
        try:
            return self[name]
        except NotRegistered:
            return None

    def origin(self, name: str) -> Origin | None:
        """Who adds the row; None for our own."""
        return None if name in self.own else _origin(self._added()[self.check(name)])

    def _added(self) -> dict[str, EntryPoint]:
        """By name. Raise NotRegistered if two packages, or a package and this one, claim the same name."""
        added: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group) if self.group else ():
            other = "cai-assets itself" if entry.name in self.own else None
            if entry.name in added and _origin(added[entry.name]) != _origin(entry):
                other = _origin(added[entry.name]).distribution
            if other:
                raise NotRegistered(f"{self._named(entry)} has a name that {other} has registered: rename it")
            added[entry.name] = entry
        return added

    def _named(self, entry: EntryPoint) -> str:
        return f"{self.what} {entry.name!r}, added by {' '.join(_origin(entry))} as {entry.value},"


def _origin(entry: EntryPoint) -> Origin:
    return Origin(entry.dist.name, entry.dist.version) if entry.dist else Origin("an unnamed package", "")
