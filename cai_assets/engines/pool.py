"""Hands out engines, and sees to it that those that hold weights fit into memory.

An engine is cheap until it runs. It then stays loaded beside others while there is room for it (``memory.py``): on an
accelerator one at a time, whatever the order of the stages. Engines of servers and scripted ones hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

from cai_assets.engines import thinking
from cai_assets.engines.adapters import OnBase, TakesAdapters, adapters_of, largest_rank
from cai_assets.engines.around import Around
from cai_assets.engines.budget import Budgeted
from cai_assets.engines.chat_template import ChatTemplate
from cai_assets.engines.memory import has_room
from cai_assets.engines.models import (
    EngineLost,
    LocalModel,
    ModelError,
    check_folder,
    identify,
    is_checkpoint,
    prepare,
    refuse_changed,
    refuse_thinking,
    told,
)
from cai_assets.engines.number_format import device, number_format
from cai_assets.engines.protocol import Engine, Request, Result, Sampled
from cai_assets.engines.ray_engine import RayEngine
from cai_assets.engines.sampled import SampledAnswers
from cai_assets.engines.vllm_arguments import numbers, with_place_for_adapters
from cai_assets.registry.base import load
from cai_assets.registry.engines import AUTO, BACKENDS, SERVED, VLLM, local_backend
from cai_assets.settings import Model, Settings
from cai_assets.store import this_run
from cai_assets.store.checkpoints import Checkpoints
from cai_assets.store.layout import Layout
from cai_assets.store.published import KEY


def resolve_backend(model: Model) -> str:
    """What 'auto' resolves to: servers if any are named, else vLLM if it is installed, else transformers."""
    if model.backend != AUTO:
        return model.backend
    return SERVED if model.base_urls else local_backend()


class EnginePool:
    """Engines by model, one of each. Use from one thread; ``close`` when done."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self.settings = settings
        self.layout = layout
        self._engines: dict[Model | Path, Engine] = {}  # by model setting, and by checkpoint folder
        self._resident: list[_InProcess] = []  # that hold weights, the one that ran last at the end

    def open(self, model: Model) -> Engine:
        """The engine of a model setting. Raise ModelError if the model cannot be used."""
        exact = _exact(model)
        if exact not in self._engines:
            self._engines[exact] = self._make(exact)
        engine = self._engines[exact]
        if model.answer_samples is None:
            return engine
        return SampledAnswers(engine, Sampled(samples=model.answer_samples, max_tokens=model.answer_tokens))

    def open_checkpoint(self, path: Path) -> Engine:
        """The engine of a trained policy, with the policy's backend. A served policy's checkpoints run in-process."""
        if (key := path.resolve()) not in self._engines:
            self._engines[key] = self._make_checkpoint(path)
        return self._engines[key]

    def close(self) -> None:
        """Close every engine. The pool can be used again."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._resident.clear()

    def make_room_for(self, engine: _InProcess) -> None:
        """Close engines that hold weights until this one fits beside them. Raise EngineLost if a run is in progress."""
        if any(other.running for other in self._resident):
            raise EngineLost("another run is in progress in this process; finish or close it before starting the next")
        if engine in self._resident:
            self._resident.remove(engine)
        else:
            while self._resident and (self.settings.engine.replicas or not has_room(engine.path, self.settings.engine)):
                self._resident.pop(0).close()
        self._resident.append(engine)

    def _make(self, model: Model) -> Engine:
        name = resolve_backend(model)
        if BACKENDS[name].in_process:
            local = prepare(model, self.layout)
            return _budgeted(self._in_process(local, name, model), model, local.path)
        engine = self._spread(name, partial(load(BACKENDS[name].factory), model, self.settings.engine))
        return _budgeted(engine, model, Path(model.tokenizer)) if model.tokenizer else engine

    def _make_checkpoint(self, path: Path) -> Engine:
        setting = self.settings.models.role("policy")
        name = resolve_backend(setting)
        if (checkpoint := BACKENDS[name].checkpoint) is not None:
            return self._spread(name, partial(load(checkpoint), path, self.layout))
        check_folder(path)
        own = self._in_process(LocalModel(path, identify(path, self.layout)),
                               name if BACKENDS[name].in_process else local_backend(), setting)
        return _budgeted(self._on_base(own) or own, setting, path)

    def _on_base(self, own: _InProcess) -> OnBase | None:
        """The policy as adapters on the engine of its base; None where it has none, or that has no place for them."""
        kept = adapters_of(own.path) if self._places and is_checkpoint(own.identity) else None
        base = self._with_weights(kept.base) if kept and kept.rank <= self._places else None
        if kept is None or base is None:
            return None
        same = base.identity.model_copy(update=own.identity.model_dump(include={"weights", "tokenizer"}))
        return OnBase(own, base, kept.folder) if same == own.identity else None

    def _with_weights(self, weights: str) -> _InProcess | None:
        """The engine of the starting policy, or of a checkpoint, if it is the model that an identity names so."""
        try:
            engine = self.open(_exact(self.settings.models.role("policy")))
            if engine.identity.weights != weights and KEY.fullmatch(weights):
                engine = next(map(self.open_checkpoint, Checkpoints(self.layout).starting_with(weights)), engine)
        except ModelError:  # the policy's own weights need no base
            return None
        base = engine.engine if isinstance(engine, Budgeted) else engine
        return base if isinstance(base, _InProcess) and base.identity.weights == weights else None

    @property
    def _places(self) -> int:
        """The rank for which engines of the policy have a place: 0, where policies are served whole. On a CPU they are:
        there models stay loaded side by side, and adapters take nearly three times the time of merged weights."""
        model, engine = self.settings.models.role("policy"), self.settings.engine
        takes = BACKENDS[resolve_backend(model)].adapters and device().accelerator
        whole = engine.replicas is not None or numbers(engine.vllm)
        return largest_rank(self.settings) if takes and not whole else 0

    def _in_process(self, model: LocalModel, backend: str, setting: Model) -> _InProcess:
        if self.settings.engine.vllm and backend != VLLM:
            this_run.tell(f"engine.vllm is set, but backend {backend!r} runs {model.path.name}: its arguments are not "
                          "used")
        dtype = {"dtype": number_format(self.settings.engine.dtype).dtype}
        resolved = dtype | {"thinking": told(setting, model.path)}
        model = LocalModel(model.path, model.identity.model_copy(update=resolved))
        settings = self.settings.engine.model_copy(update=dtype)
        if self._places and _exact(setting) == _exact(self.settings.models.role("policy")):
            settings = with_place_for_adapters(settings, self._places)
        make = partial(load(BACKENDS[backend].factory), model.path, model.identity, settings)
        return _InProcess(self._spread(backend, make), self, backend, model)

    def _spread(self, backend: str, make: Callable[[], Engine]) -> Engine:
        """The engine itself, or one with replicas of it on a cluster. Servers are replicated where they run."""
        settings = self.settings.engine
        if settings.replicas is None or backend == SERVED:
            return make()
        return RayEngine(make, settings)


class _InProcess(Around):
    """An engine that frees memory before it loads, and runs only the model that it was opened with."""

    aside = False  # one at a time has the memory

    def __init__(self, engine: Engine, pool: EnginePool, backend: str, model: LocalModel) -> None:
        super().__init__(engine)
        self.path = model.path
        self._model = model
        self._pool = pool
        self._backend = backend
        self.running = False

    @property
    def takes_adapters(self) -> bool:
        """Whether the model can be run with adapters; to be asked when something runs."""
        return self._adaptable.takes_adapters

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        yield from self._alone(partial(self.engine.run, requests))

    def run_adapted(self, requests: Iterable[Request], adapters: Path) -> Iterator[Result]:
        yield from self._alone(partial(self._adaptable.run_adapted, requests, adapters))

    @property
    def _adaptable(self) -> TakesAdapters:
        """The engine, of a backend whose row has ``adapters``."""
        return cast("TakesAdapters", self.engine)

    def refuse(self) -> None:
        """Raise EngineLost unless the backend is there, and the model is what it was opened with."""
        if not isinstance(self.engine, RayEngine):
            refuse_missing(self._backend)
        refuse_thinking(self.identity.thinking, self.path)
        refuse_changed(self._model, self._pool.layout)

    def _alone(self, run: Callable[[], Iterator[Result]]) -> Iterator[Result]:
        self.refuse()
        self._pool.make_room_for(self)
        self.running = True
        try:
            yield from run()
        finally:
            self.running = False


def _exact(model: Model) -> Model:
    """A model as what runs it knows it."""
    return model.model_copy(update={"answer_samples": None})


def refuse_missing(backend: str) -> None:
    """Raise EngineLost if a package is missing. Checked only on run: plans open engines on machines without torch."""
    row = BACKENDS[backend]
    if row.missing:
        how = f": install {row.install}, or choose another" if row.install else ""
        raise EngineLost(f"backend {backend!r} needs the package {row.missing}, which is not installed{how} "
                         "(models.*.backend)")


def _budgeted(engine: Engine, setting: Model, path: Path) -> Engine:
    """The engine with the budget of thoughts that a model setting has. ``path``: of its chat template."""
    found = thinking.read(ChatTemplate.in_folder(path)) if setting.thinking == "budget" else None
    return engine if found is None else Budgeted(engine, found, setting.thinking_tokens)
