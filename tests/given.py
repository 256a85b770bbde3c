"""A context of given tables, for tests of one stage; and a file of weights, for tests that load none."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.pipeline.context import Context
from cai_assets.settings import Settings
from cai_assets.steps.complete import Completer
from cai_assets.store.records import Record
from cai_assets.store.tables import Held


def safetensors(data: bytes) -> bytes:
    """A whole safetensors file of one tensor with these bytes."""
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({"weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


class Given(Context):
    """Round 1, in which one completer answers for everyone."""

    def __init__(self, settings: Settings, complete: Completer | None = None, constitution: Constitution | None = None,
                 **tables: pl.DataFrame) -> None:
        super().__init__(SimpleNamespace(settings=settings), None)  # type: ignore[arg-type]
        self.tables, self.constitution, self._complete = tables, constitution, complete  # type: ignore[assignment]

    def table(self, asset: str) -> Held:
        return Held(self.tables[asset])

    def note(self, asset: str) -> None:
        pass

    def before(self) -> Record | None:
        return None

    def complete(self, role: Any) -> Completer:
        assert self._complete is not None
        return self._complete

    complete_as = complete
