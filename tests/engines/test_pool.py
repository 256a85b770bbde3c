"""Engines in memory that fit there, and the backend that was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from given import safetensors

from cai_assets.engines import memory
from cai_assets.engines.models import EngineLost, ModelError
from cai_assets.engines.number_format import Device, gpu, number_format
from cai_assets.engines.pool import EnginePool, resolve_backend
from cai_assets.engines.protocol import Call, Engine, ModelIdentity, Request, Result, Sampling
from cai_assets.registry.base import load
from cai_assets.registry.engines import BACKENDS, LOCAL, SERVED, Backend
from cai_assets.settings import Model, SettingsError, load_settings
from cai_assets.store import this_run
from cai_assets.store.layout import Layout


class Heavy:
    """Stands for an engine with weights; ``alive`` holds those in memory."""

    alive: set[Path] = set()  # noqa: RUF012
    most = 0

    def __init__(self, path: Path, identity: ModelIdentity, settings: Any) -> None:
        self.path, self.identity = path, identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        self.alive.add(self.path)
        Heavy.most = max(Heavy.most, len(self.alive))
        for r in requests:
            yield Result(row_key=r.row_key, text=self.path.name, finish="stop")

    def close(self) -> None:
        self.alive.discard(self.path)


REQUESTS = [
    Request(row_key=f"row:{i}", seed=i, call=Call(messages=({"role": "user", "content": "q"},), sampling=Sampling()))
    for i in range(3)
]


def folder(path: Path, weights: bytes) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (path / "model.safetensors").write_bytes(safetensors(weights))
    (path / "tokenizer.json").write_text("{}")
    return path


@pytest.fixture
def heavy(monkeypatch: pytest.MonkeyPatch) -> type[Heavy]:
    Heavy.alive, Heavy.most = set(), 0
    for name in ("vllm", "transformers"):
        monkeypatch.setitem(BACKENDS.own, name, Backend(factory=f"{__name__}:Heavy", in_process=True))  # type: ignore[arg-type]
    return Heavy


def make(tmp_path: Path, **models: Any) -> EnginePool:
    return EnginePool(load_settings({"models": models}, environment={}), Layout(tmp_path / "data"))


@pytest.mark.parametrize("why", ["little memory", "an accelerator"])
def test_at_most_one_engine_is_in_memory(
    why: str, tmp_path: Path, heavy: type[Heavy], monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "little memory":
        monkeypatch.setattr(memory, "available", lambda: memory.LEFT)
    else:
        monkeypatch.setattr(memory, "device", lambda: gpu("H200", (9, 0)))
    pool = make(tmp_path, generator=str(folder(tmp_path / "base", b"1")))
    base = pool.open(pool.settings.models.generator)
    trained = pool.open_checkpoint(folder(tmp_path / "trained", b"2"))
    assert heavy.alive == set()
    assert base.identity.weights != trained.identity.weights
    for engine, name in ((base, "base"), (trained, "trained"), (base, "base")):
        assert {r.text for r in engine.run(REQUESTS)} == {name}
    assert heavy.most == 1
    pool.close()
    assert heavy.alive == set()


def test_engines_stay_while_there_is_room_and_the_one_that_ran_longest_ago_goes_first(
    tmp_path: Path, heavy: type[Heavy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "device", lambda: Device("a processor", ("float32",)))
    need = memory.LEFT + memory.GIB + 1
    monkeypatch.setattr(memory, "available", lambda: need + 1000 * (2 - len(heavy.alive)))
    pool = make(tmp_path, generator=str(folder(tmp_path / "base", b"1")))
    base = pool.open(pool.settings.models.generator)
    one, two = (pool.open_checkpoint(folder(tmp_path / name, name.encode())) for name in ("one", "two"))
    alive = []
    for engine in (base, one, base, two):
        list(engine.run(REQUESTS))
        alive.append({path.name for path in heavy.alive})
    assert alive == [{"base"}, {"base", "one"}, {"base", "one"}, {"base", "two"}]
    pool.close()
    assert heavy.alive == set()


def test_what_is_available_is_bounded_by_the_machine_and_by_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    machine = memory.available()
    assert machine > 0
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory.available() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 600


def test_an_engine_is_made_once_per_model(tmp_path: Path, heavy: type[Heavy]) -> None:
    pool = make(tmp_path, generator=str(folder(tmp_path / "base", b"1")))
    assert pool.open(pool.settings.models.generator) is pool.open(pool.settings.models.role("judge"))


def test_runs_do_not_overlap(tmp_path: Path, heavy: type[Heavy]) -> None:
    pool = make(tmp_path, generator=str(folder(tmp_path / "base", b"1")))
    base, trained = pool.open(pool.settings.models.generator), pool.open_checkpoint(folder(tmp_path / "t", b"2"))
    going_on = base.run(REQUESTS)
    next(going_on)
    with pytest.raises(EngineLost, match="another run"):
        list(trained.run(REQUESTS))
    going_on.close()
    assert len(list(trained.run(REQUESTS))) == 3


def test_scripted_needs_no_files(tmp_path: Path) -> None:
    pool = make(tmp_path, generator={"source": "anything", "backend": "scripted"})
    assert pool.open(pool.settings.models.generator).identity.weights == "scripted:anything"
    one, two = (pool.open_checkpoint(folder(tmp_path / n, n.encode())).identity for n in ("one", "two"))
    assert one.weights.startswith("weights:")
    assert one.weights != two.weights
    assert pool.open_checkpoint(tmp_path / "absent").identity.weights.startswith("scripted:")
    assert not (tmp_path / "data" / "models" / "anything").exists()


def test_backend_is_chosen_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backend(Model(base_urls=("http://127.0.0.1:9/v1",))) == "openai"
    assert resolve_backend(Model(backend="transformers", base_urls=("http://127.0.0.1:9/v1",))) == "transformers"
    monkeypatch.setattr("cai_assets.registry.engines.find_spec", lambda name: None)
    assert resolve_backend(Model()) == "transformers"
    monkeypatch.setattr("cai_assets.registry.engines.find_spec", lambda name: object())
    assert resolve_backend(Model()) == "vllm"


def test_a_checkpoint_is_checked_before_it_is_opened(tmp_path: Path, heavy: type[Heavy]) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        make(tmp_path).open_checkpoint(tmp_path / "absent")


def test_a_backend_whose_package_is_missing_names_it_when_it_runs_and_not_before(
    tmp_path: Path, heavy: type[Heavy], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Backend(factory=f"{__name__}:Heavy", in_process=True, needs=("no_such_engine",), install="cai-assets[gpu]")
    monkeypatch.setitem(BACKENDS.own, "vllm", row)  # type: ignore[arg-type]
    pool = make(tmp_path, generator={"source": str(folder(tmp_path / "base", b"1")), "backend": "vllm"})
    engine = pool.open(pool.settings.models.generator)
    assert engine.identity.weights.startswith("weights:")
    with pytest.raises(EngineLost, match=r"'vllm' needs the package no_such_engine.*install cai-assets\[gpu\]"):
        list(engine.run(REQUESTS))
    assert heavy.alive == set()


@pytest.mark.parametrize("name", [n for n in BACKENDS.own if BACKENDS[n].in_process])
def test_every_backend_that_serves_a_folder_is_an_engine(name: str, tmp_path: Path) -> None:
    identity = ModelIdentity(weights="w", tokenizer="t", template="c")
    engine = load(BACKENDS[name].factory)(folder(tmp_path / "m", b"1"), identity, load_settings(environment={}).engine)
    assert isinstance(engine, Engine)
    assert engine.identity == identity.model_copy(update={"dtype": number_format().dtype})


def test_every_other_backend_is_an_engine(tmp_path: Path) -> None:
    settings = load_settings(environment={})
    model = Model(source="m", base_urls=("http://127.0.0.1:9/v1",))
    for row in (BACKENDS[n] for n in BACKENDS.own if not BACKENDS[n].in_process):
        assert isinstance(load(row.factory)(model, settings.engine), Engine)
        if row.checkpoint:
            assert isinstance(load(row.checkpoint)(tmp_path / "absent", Layout(tmp_path)), Engine)


def test_auto_and_its_choices_are_registered() -> None:
    assert {SERVED, *LOCAL} <= set(BACKENDS.own)
    assert all(BACKENDS[name].in_process for name in LOCAL)


def test_a_backend_that_is_not_registered_is_refused_with_the_names_that_are() -> None:
    with pytest.raises(SettingsError, match=r"models\.generator\.backend: .*'vlm' is no engine backend: "
                                           rf"choose one of auto, {', '.join(BACKENDS.own)}"):
        load_settings({"models": {"generator": {"backend": "vlm"}}}, environment={})


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_a_backend_that_does_not_read_the_arguments_of_vllm_says_so(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    this_run.begin()
    source = Model(source=str(folder(tmp_path / "base", b"1")), backend=backend)
    settings = load_settings({"models": {"generator": source}, "engine": {"vllm": {"quantization": "fp8"}}},
                             environment={})
    identity = EnginePool(settings, Layout(tmp_path / "data")).open(source).identity
    assert bool(identity.arguments) == (backend == "vllm")
    assert ("engine.vllm is set, but backend 'transformers' runs base" in caplog.text) == (backend != "vllm")
