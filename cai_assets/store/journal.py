"""JSON lists that only grow, such as the order in which constitutions were registered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cai_assets.errors import CaiError
from cai_assets.store.json_text import parse_json
from cai_assets.store.layout import Layout


class JournalDamaged(CaiError, ValueError):
    """A list cannot be read. The message says which."""


class Journal:
    """A JSON list that only grows. Readers see it whole; of two processes that append at once, none loses its entry."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._storage, self._name = layout.storage, name

    @property
    def path(self) -> Path:
        """The path of the list."""
        return self._storage.local(self._name)

    def entries(self) -> list[Any]:
        """All of it, oldest first. Raise JournalDamaged."""
        try:
            return self._parsed(self._storage.get(self._name))
        except FileNotFoundError:
            return []

    def _parsed(self, data: bytes) -> list[Any]:
        try:
            listed = parse_json(data)
        except ValueError as e:
            raise JournalDamaged(f"{self.path} is not JSON ({e}): restore it, or move it away") from None
        if not isinstance(listed, list):
            raise JournalDamaged(f"{self.path} is not a list: restore it, or move it away")
        return listed

    def append(self, missing: Callable[[list[Any]], Sequence[Any]]) -> bool:
        """Append what ``missing`` finds missing in the newest entries; return whether that was anything."""
        return bool(missing(self.entries())) and self.extend(missing)

    def extend(self, missing: Callable[[list[Any]], Sequence[Any]]) -> bool:
        """As ``append``, for what is hardly ever there: read once, under the lock."""
        def grown(data: bytes | None) -> bytes | None:
            entries = [] if data is None else self._parsed(data)
            new = list(missing(entries))
            return json.dumps([*entries, *new], indent=1).encode() if new else None

        return self._storage.update(self._name, grown)
