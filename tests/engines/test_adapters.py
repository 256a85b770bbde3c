"""Policies that were trained as adapters, on the engine that has their base loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_fixtures import prepared_model
from test_pool import REQUESTS, Heavy, folder

from cai_assets.engines import pool, vllm_arguments
from cai_assets.engines.adapters import BASE, CONFIG, FOLDER, WEIGHTS
from cai_assets.engines.models import identify
from cai_assets.engines.number_format import Device, gpu
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import Call, Request, Result, Sampling
from cai_assets.registry.engines import BACKENDS, Backend
from cai_assets.settings import load_settings
from cai_assets.store.checkpoints import Checkpoint, Checkpoints
from cai_assets.store.layout import Layout

KEYS = {"sl_policy": f"k1:{'a' * 32}", "rl_policy": f"k1:{'b' * 32}"}


class Adaptable(Heavy):
    """Answers with its model's name, and those of adapters."""

    takes_adapters = True

    def run_adapted(self, requests: Any, adapters: Path) -> Iterator[Result]:
        for result in self.run(requests):
            yield result.model_copy(update={"text": f"{result.text} with {adapters.parent.name[0]}"})


@pytest.fixture
def adaptable(monkeypatch: pytest.MonkeyPatch) -> type[Adaptable]:
    Heavy.alive, Adaptable.takes_adapters = set(), True
    row = Backend(factory=f"{__name__}:Adaptable", in_process=True, adapters=True)
    monkeypatch.setitem(BACKENDS.own, "vllm", row)  # type: ignore[arg-type]
    monkeypatch.setattr(pool, "device", lambda: gpu("H200", (9, 0)))
    return Adaptable


def published(root: Path, kind: str, base: str, rank: int | None = 4) -> Checkpoint:
    """A checkpoint that keeps adapters of a base; with ``rank=None`` it is whole weights only."""
    (root / "staged").mkdir(parents=True, exist_ok=True)
    staged = folder(root / "staged" / kind, kind.encode())
    if rank is not None:
        (staged / FOLDER).mkdir()
        (staged / FOLDER / CONFIG).write_text(json.dumps({BASE: base, "r": rank}))
        (staged / FOLDER / WEIGHTS).write_bytes(b"adapters")
    return Checkpoints(Layout(root / "data")).publish(kind, KEYS[kind], staged, record={}, card="")


def opened(root: Path, **settings: Any) -> EnginePool:
    base = root / "base" if (root / "base").is_dir() else folder(root / "base", b"1")
    given = {"models": {"generator": {"source": str(base), "backend": "vllm"}}, **settings}
    return EnginePool(load_settings(given, environment={}), Layout(root / "data"))


def who(found: EnginePool, checkpoint: Checkpoint) -> tuple[str, set[str]]:
    """Who answers for a policy, and which models are in memory then."""
    engine = found.open_checkpoint(checkpoint.path)
    assert engine.identity.weights == checkpoint.key  # whoever runs it
    [text] = {r.text for r in engine.run(REQUESTS)}
    loaded = {path.name[:4] for path in Heavy.alive}
    found.close()
    return str(text), loaded


BOTH: dict[str, Any] = {"sl": {"lora": {"rank": 4}}, "rl": {"lora": {"rank": 4}}}


def test_a_policy_trained_as_adapters_runs_on_its_base_and_nothing_else_is_loaded(
    tmp_path: Path, adaptable: type[Adaptable]
) -> None:
    found = opened(tmp_path, **BOTH)
    base = found.open(found.settings.models.generator).identity.weights
    sl, rl = published(tmp_path, "sl_policy", base), published(tmp_path, "rl_policy", base, rank=8)
    for checkpoint, name in ((sl, "a"), (rl, "b")):
        assert who(found, checkpoint) == (f"base with {name}", {"base"})


def test_adapters_of_a_checkpoint_run_on_that(tmp_path: Path, adaptable: type[Adaptable]) -> None:
    found = opened(tmp_path, rl={"lora": {"rank": 4}})
    published(tmp_path, "sl_policy", "", rank=None)
    rl = published(tmp_path, "rl_policy", KEYS["sl_policy"])
    assert who(found, rl) == ("a" * 32 + " with b", {"aaaa"})


@pytest.mark.parametrize("why", ["no adapters", "no setting", "too large", "another base", "a damaged file", "replaced",
                                 "numbers change", "base gone", "not of this kind", "on a CPU"])
def test_else_it_is_loaded_whole_as_before(
    why: str, tmp_path: Path, adaptable: type[Adaptable], monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "on a CPU":
        monkeypatch.setattr(pool, "device", lambda: Device("a processor", ("float32",)))
    settings = {} if why == "no setting" else BOTH | (
        {"engine": {"vllm": {"quantization": "fp8"}}} if why == "numbers change" else {})
    found = opened(tmp_path, **settings)
    base = found.open(found.settings.models.generator).identity.weights
    adaptable.takes_adapters = why != "not of this kind"
    sl = published(tmp_path, "sl_policy", "weights:other" if why == "another base" else base,
                   rank=None if why == "no adapters" else 64 if why == "too large" else 4)
    found = opened(tmp_path, **settings)
    if why == "base gone":
        (tmp_path / "base" / "config.json").unlink()
    if why == "a damaged file":  # it is no longer the checkpoint that its record names, and runs as what it is
        (sl.path / FOLDER / WEIGHTS).write_bytes(b"damaged!")
        engine = found.open_checkpoint(sl.path)
        assert engine.identity.weights != sl.key
        assert {r.text for r in engine.run(REQUESTS)} == {sl.path.name}
    elif why == "replaced":  # after it was opened
        engine = found.open_checkpoint(sl.path)
        (sl.path / FOLDER / WEIGHTS).write_bytes(b"replaced")
        with pytest.raises(Exception, match="files were changed or damaged"):
            list(engine.run(REQUESTS))
    else:
        assert who(found, sl) == (sl.path.name, {"aaaa"})


def test_a_place_for_adapters_enters_no_key_and_ones_own_hand_decides() -> None:
    engine = load_settings(environment={}).engine
    assert vllm_arguments.with_place_for_adapters(engine, 20).vllm == {"enable_lora": True, "max_lora_rank": 32}
    assert vllm_arguments.with_place_for_adapters(engine, 513) == engine
    off = engine.model_copy(update={"vllm": {"enable_lora": False}})
    assert vllm_arguments.with_place_for_adapters(off, 8).vllm["enable_lora"] is False
    assert vllm_arguments.numbers(vllm_arguments.with_place_for_adapters(engine, 20).vllm) == ""


@pytest.mark.model
def test_vllm_runs_a_policy_on_its_base_as_its_merged_weights_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm")
    monkeypatch.setattr(pool, "device", lambda: gpu("as if", (9, 0)))  # a CPU would load the policy whole
    import torch
    from transformers import AutoTokenizer

    from cai_assets.engines.transformers_engine import TransformersEngine
    from cai_assets.settings import Lora
    from cai_assets.train.lora import adapted, keep_adapters, merged
    from cai_assets.train.run import load_causal

    base, staged = prepared_model(), tmp_path / "staged"
    torch.manual_seed(0)
    model = adapted(load_causal(base.path), Lora(rank=4), "CAUSAL_LM")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    keep_adapters(model, staged, base.path, base.identity.weights)
    merged(model).save_pretrained(staged)
    AutoTokenizer.from_pretrained(base.path).save_pretrained(staged)
    layout = Layout(tmp_path / "data")
    sl = Checkpoints(layout).publish("sl_policy", KEYS["sl_policy"], staged, record={}, card="")
    found = EnginePool(load_settings({"models": {"generator": {"source": str(base.path), "backend": "vllm"}}, **BOTH,
                                     "engine": {"dtype": "float32", "max_model_len": 512}}, environment={}), layout)
    calls = [Call(messages=({"role": "user", "content": f"Name {n} fruits."},),
                  sampling=Sampling(temperature=0, max_tokens=8)) for n in range(2, 6)]
    requests = [Request(row_key=str(i), seed=i, call=call) for i, call in enumerate(calls)]
    policy, starting = found.open_checkpoint(sl.path), found.open(found.settings.models.generator)
    on_base, plain = ({r.row_key: r.text for r in engine.run(requests)} for engine in (policy, starting))
    assert len(found._resident) == 1
    found.close()
    whole = TransformersEngine(sl.path, identify(sl.path), found.settings.engine)
    alone = {r.row_key: r.text for r in whole.run(requests)}
    assert sum(on_base[key] == alone[key] for key in alone) >= 3  # a near tie may fall either way
    assert sum(on_base[key] != plain[key] for key in alone) >= 3
