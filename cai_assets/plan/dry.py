"""Running the stages without running a model: stored rows come back, missing ones are counted.

A missing row has no text, so what depends on it cannot be keyed yet. The stages carry such rows on as they carry
failed ones, which is what gives the plan its bounds: *certain* rows have a key that is not in the store; *possible*
ones depend on a text that is not known before it is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai_assets.engines.protocol import Call, ModelIdentity
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.store.row_store import RowStore

PLANNED = "not generated yet"


class _Identified:
    """Stands where an engine would; knows who it is and runs nothing."""

    def __init__(self, identity: ModelIdentity) -> None:
        self.identity = identity

    def run(self, requests: object) -> Any:
        raise AssertionError("a plan runs no model")

    def close(self) -> None:
        """Nothing to give back."""


class DryCompleter(Completer):
    """Looks rows up; ``missing`` has the step of every row that would have to be generated, by key."""

    def __init__(self, identity: ModelIdentity, store: RowStore, *, seed: int) -> None:
        super().__init__(_Identified(identity), store, seed=seed)
        self.missing: dict[str, str] = {}

    @property
    def reused(self) -> int:
        """Calls whose row is in the store."""
        return sum(u.reused for u in self.usage.values())

    def _run(self, step: Step, missing: Mapping[str, Call], what: str) -> dict[str, Row]:
        self.missing.update(dict.fromkeys(missing, step.name))
        return {key: Row(key, "failed", None, error=PLANNED) for key in missing}
