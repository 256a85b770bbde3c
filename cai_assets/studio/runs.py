"""What the studio asks of Dagster, which only ``defs`` and ``web`` import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cai_assets.errors import CaiError


class NotLaunched(CaiError):
    """Dagster refuses a run. The message says why."""


class Run(Protocol):
    """A run: its id, Dagster's word for how it stands, and when it began."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def began(self) -> str: ...


class Runs(Protocol):
    """Partitions and runs."""

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed."""

    def latest(self) -> Mapping[str, Run]:
        """The newest run of each version."""

    def add(self, version: str) -> None:
        """Add the partition of a registered version."""

    def launch(self, version: str, overrides: Mapping[str, Any], assets: Sequence[str] = ()) -> str:
        """Hand a run of the whole graph, or of some assets, for a version to the daemon; return its id.

        ``overrides``: settings other than those of ``settings.yaml``. Raise NotLaunched.
        """
