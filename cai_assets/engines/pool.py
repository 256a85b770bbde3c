"""Hands out engines, and sees to it that at most one of them holds weights in this process.

An engine is cheap until it runs. Running one closes the one that ran before, so memory holds one model
whatever the order of the stages; engines of servers and scripted ones hold nothing and stay.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from cai_assets.engines.models import EngineLost, LocalModel, check_folder, identify, prepare
from cai_assets.engines.openai_engine import OpenAIEngine
from cai_assets.engines.protocol import Engine, ModelIdentity, Request, Result
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.engines.vllm_engine import VllmEngine
from cai_assets.settings import Model, Settings
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout

Resolved = Literal["vllm", "transformers", "openai", "scripted"]


def resolve_backend(model: Model) -> Resolved:
    """What 'auto' means here: servers if any are named, else vLLM if it is installed, else transformers."""
    if model.backend != "auto":
        return model.backend
    return "openai" if model.base_urls else _local_backend()


def _local_backend() -> Resolved:
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"


class EnginePool:
    """Engines by model, one of each. Use from one thread; ``close`` when done."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self.settings = settings
        self.layout = layout
        self._engines: dict[str, Engine] = {}
        self._resident: _InProcess | None = None

    def open(self, model: Model) -> Engine:
        """The engine of a model setting. Raise ModelError if the model cannot be used."""
        key = "model:" + model.model_dump_json()
        if key not in self._engines:
            self._engines[key] = self._make(model)
        return self._engines[key]

    def open_checkpoint(self, path: Path) -> Engine:
        """The engine of a trained policy, with the policy's backend. A served policy's checkpoints run in process."""
        key = f"checkpoint:{path.resolve()}"
        if key not in self._engines:
            backend = resolve_backend(self.settings.models.role("policy"))
            if backend == "scripted":
                self._engines[key] = Scripted(identity=_scripted_identity(path, self.layout))
            else:
                check_folder(path)
                local = LocalModel(path, identify(path, self.layout))
                self._engines[key] = self._in_process(local, _local_backend() if backend == "openai" else backend)
        return self._engines[key]

    def close(self) -> None:
        """Close every engine. The pool can be used again."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._resident = None

    def make_room_for(self, engine: _InProcess) -> None:
        """Close the engine that holds weights, unless it is this one. Raise EngineLost if a run is going on."""
        if self._resident is not None and self._resident.running:
            raise EngineLost("another run is going on in this process; finish or close it before starting the next")
        if self._resident is not None and self._resident is not engine:
            self._resident.close()
        self._resident = engine

    def _make(self, model: Model) -> Engine:
        backend = resolve_backend(model)
        if backend == "openai":
            return OpenAIEngine(model, self.settings.engine)
        if backend == "scripted":
            return Scripted(model.source)
        return self._in_process(prepare(model, self.layout), backend)

    def _in_process(self, model: LocalModel, backend: Resolved) -> Engine:
        kind = VllmEngine if backend == "vllm" else TransformersEngine
        identity = model.identity.model_copy(update={"dtype": self.settings.engine.dtype})
        return _InProcess(kind(model.path, identity, self.settings.engine), self)


class _InProcess:
    """An engine that makes room before it loads."""

    def __init__(self, engine: Engine, pool: EnginePool) -> None:
        self._engine = engine
        self._pool = pool
        self.running = False

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        self._pool.make_room_for(self)
        self.running = True
        try:
            yield from self._engine.run(requests)
        finally:
            self.running = False

    def close(self) -> None:
        self._engine.close()


def _scripted_identity(path: Path, layout: Layout) -> ModelIdentity:
    trained = any(path.glob("*.safetensors"))
    weights = identify(path, layout).weights if trained else tagged_hash("scripted", path.name)
    return ModelIdentity(weights=weights, tokenizer="none", template="none")
