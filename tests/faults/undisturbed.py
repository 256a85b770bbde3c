"""A finished data root that nothing disturbed, to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from histories import History, stored

from cai_assets.lineage.verify import verify
from cai_assets.store.layout import Layout


class Undisturbed(NamedTuple):
    """A finished data root that no one changes, and what it holds."""

    history: History
    root: Path
    version: str
    rows: dict[str, str]
    digests: dict[str, str]

    def equals(self, root: Path) -> None:
        """Raise unless the root holds the same rows, each once, and tables, and every file is as recorded."""
        assert stored(root) == self.rows
        assert self.history.digests(root, self.version) == self.digests
        assert verify(Layout(root)) == []
