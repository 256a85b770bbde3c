"""Running the stages without running a model: stored rows come back, missing ones are counted.

A missing row has no text, so what depends on it cannot be keyed yet. The stages carry such rows on as they carry
failed ones, which is what gives the plan its bounds: *certain* rows have a key that is not in the store; *possible*
ones depend on a text that is not known before it is generated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cai_assets.constitution.model import Constitution
from cai_assets.engines.protocol import Call, Engine, ModelIdentity
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.project import Project
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.records import Record
from cai_assets.store.row_store import RowStore
from cai_assets.store.tables import Scratch, Table

PLANNED = "not generated yet"
UNTRAINED = ModelIdentity(weights="not trained yet", tokenizer="", template="")  # no stored row can be its


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

    def unasked(self, step: Step, key: str, call: Call) -> Row:
        self.missing[key] = step.name
        return Row(key, "failed", None, error=PLANNED)


@dataclass
class Made:
    """What a plan's stages have made so far. ``tables``: of stored rows; ``checkpoints``: None, where to be trained."""

    tables: dict[str, Table] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint | None] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)


class DryRun(Context):
    """The context in which a plan runs one stage.

    ``tables``: what it reads in place of what was made. Afterwards ``asked`` has the completers, by who was asked;
    ``tables_read`` and ``started_from`` the assets above whose rows it read, and whose checkpoints it asked for.
    """

    def __init__(self, project: Project, version: str, constitution: Constitution, start: Record | None, made: Made,
                 dry: Callable[[ModelIdentity], DryCompleter], tables: Mapping[str, Table]) -> None:
        super().__init__(project, version)
        self.constitution, self._start, self._dry = constitution, start, dry
        self._tables, self._checkpoints = {**made.tables, **tables}, made.checkpoints
        self.asked: dict[str, DryCompleter] = {}
        self.tables_read: list[str] = []
        self.started_from: list[str] = []

    def table(self, asset: str) -> Table:
        self.tables_read.append(asset)
        return self._tables[asset]

    def note(self, asset: str) -> None:
        pass

    def checkpoint(self, asset: str) -> Checkpoint | None:
        self.started_from.append(asset)
        return self._checkpoints[asset]

    def is_made(self, asset: str) -> bool:
        return asset not in self.absent

    def before(self) -> Record | None:
        return self._start

    def completer(self, who: str, engine: Engine | None) -> DryCompleter:
        self.asked[who] = self._dry(engine.identity if engine else UNTRAINED)
        return self.asked[who]
