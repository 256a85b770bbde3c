"""Engines that ask nothing: what is stored is reused, and a row that is not is an error that names it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import NOT_YET, Engine, ModelIdentity, Request, Result
from cai_assets.errors import CaiError
from cai_assets.settings import Model


class NotStored(CaiError):
    """A row has a key that the store does not have."""


class Replay:
    """A model that is known and never run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Raise NotStored for the first request there is."""
        for request in requests:
            if request is not NOT_YET:
                raise NotStored(f"the row {request.row_key} is not stored")
        yield from ()

    def close(self) -> None:
        self._engine.close()


class ReplayPool(EnginePool):
    """Engines of the same models, which ask nothing."""

    def _make(self, model: Model) -> Engine:
        return Replay(super()._make(model))

    def _make_checkpoint(self, path: Path) -> Engine:
        return Replay(super()._make_checkpoint(path))
