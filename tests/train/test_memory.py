"""What a training needs of memory: the estimate against autograd's own count and measured peaks; what makes it fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_model

from cai_assets.engines.model_shape import Shape, shape_of
from cai_assets.engines.number_format import Device, cpu, gpu
from cai_assets.settings import Reinforcement, Reward, Settings, Training, Tuning, load_settings
from cai_assets.train import choice
from cai_assets.train.choice import NoMemory, as_set, chosen, fitting, refuse_without_memory
from cai_assets.train.identity import recipe
from cai_assets.train.memory import Place, _layer, training_need

CPU = Place(cpu(frozenset()), "float32")
GPU = Place(gpu("one", (9, 0)), "bfloat16")
GB = 1e9
# Peaks of the training's process with the bundled model, on two x86-64 cores without bfloat16 (benchmarks/memory.py).
MEASURED = [
    ("supervised", {"batch_size": 4, "max_length": 256}, 5.571),
    ("supervised", {"batch_size": 8, "max_length": 256}, 8.642),
    ("supervised", {"batch_size": 1, "max_length": 64}, 3.057),
    ("reward", {"batch_size": 4, "max_length": 128}, 4.301),
    ("reinforcement", {"batch_size": 4, "max_length": 192, "rollouts": 8, "algorithm": "ppo"}, 9.199),
    ("reinforcement", {"batch_size": 4, "max_length": 192, "rollouts": 8, "algorithm": "grpo"}, 6.097),
    ("reinforcement", {"batch_size": 4, "max_length": 128, "algorithm": "dpo"}, 6.166),
]
GROUPS: dict[str, type[Training]] = {"supervised": Tuning, "reward": Reward, "reinforcement": Reinforcement}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(choice, "device", lambda: CPU.device)
    return load_settings({"engine": {"dtype": "float32"}}, environment={})


@pytest.mark.model
@pytest.mark.parametrize(("kind", "changes", "measured"), MEASURED)
def test_the_estimate_is_within_15_percent_of_measured_peaks(
    kind: Any, changes: dict[str, Any], measured: float
) -> None:
    from model_fixtures import prepared_model

    shape = shape_of(prepared_model().path)
    grader = shape if kind == "reinforcement" and changes["algorithm"] != "dpo" else None
    need = training_need(shape, GROUPS[kind].model_validate(changes), kind, CPU, graded_by=grader)
    assert need.total / GB == pytest.approx(measured, rel=0.15)


def family(name: str, layers: int) -> Any:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 128, "hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16,
             "intermediate_size": 256, "num_hidden_layers": layers}
    return getattr(transformers, f"{name}Config")(**sizes)


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Qwen3", "Mistral", "Gemma2"])
def test_bytes_of_a_layer_are_those_that_autograd_saves(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    rows, tokens = 2, 64
    few, more = (_saved(family(name, layers), rows, tokens) for layers in (2, 4))
    AutoModelForCausalLM.from_config(family(name, 2)).save_pretrained(tmp_path)
    saved = (more - few) / 2 / (rows * tokens)
    mask = 4 * tokens
    assert _layer(shape_of(tmp_path), mixed=False) == pytest.approx(saved - mask, rel=0.03)
    assert torch.get_default_dtype() == torch.float32


def _saved(config: Any, rows: int, tokens: int) -> int:
    """Bytes that the backward pass of the layers will read, parameters aside."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM

    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
        weights = {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers()]}
        seen: dict[int, Any] = {}

        def keep(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                seen[storage._cdata] = tensor
            return tensor

        ids = torch.zeros(rows, tokens, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            model.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        return sum(t.untyped_storage().nbytes() for t in seen.values())


SEVEN_B = Shape(parameters=7_600_000_000, layers=28, hidden=3584, queries=3584, keys=512, inner=18_944,
                vocabulary=152_064, norms=2, normed_heads=False, gated=True, linear=((3584, 18_944),) * 84)


def need(kind: Any, place: Place = GPU, **changes: Any) -> float:
    group = GROUPS[kind].model_validate({"batch_size": 8, "max_length": 1024, **changes})
    grader = SEVEN_B if kind == "reinforcement" else None
    return training_need(SEVEN_B, group, kind, place, graded_by=grader).total / GB


def test_each_way_to_save_memory_saves_it() -> None:
    full = need("supervised")
    assert 16 * 7.6 < full < 16 * 7.6 + 60  # weights, gradients, two moments; then what one step adds
    assert need("supervised", checkpointing=False) > full + 50
    assert need("supervised", optimizer="adamw_8bit") == pytest.approx(full - 6 * 7.6)
    adapters = need("supervised", lora={"rank": 16})
    assert 4 * 7.6 < adapters < full / 2
    assert need("supervised", lora={"rank": 16}, quantized=True) < adapters - 10
    assert need("supervised", processes=8, sharding="fsdp") < full / 3
    assert need("supervised", processes=8) > full  # each holds everything, and what it exchanges
    assert need("reinforcement", algorithm="ppo") > need("reinforcement", algorithm="grpo") + 16 * 7.6
    assert need("reinforcement", algorithm="ppo", value_model="shared") == need("reinforcement", algorithm="grpo")
    assert need("supervised", packing="padding_free", checkpointing=False) < need("supervised", checkpointing=False)


def test_memory_auto_takes_what_changes_no_number_first(
    base: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = settings.model_copy(update={"sl": settings.sl.model_copy(update={"memory": "auto", "batch_size": 8})})
    whole = as_set(base, auto, "supervised").need.total
    monkeypatch.setattr(choice, "capacity", lambda: whole)
    assert chosen(base, auto, "supervised") == auto
    less = choice._Sizes(base, auto, "supervised", None).fit({"checkpointing": True}).need.total
    monkeypatch.setattr(choice, "capacity", lambda: less)
    fitted = chosen(base, auto, "supervised")
    assert fitted.sl.checkpointing is True
    assert recipe(fitted, "supervised") == recipe(settings.model_copy(update={"sl": auto.sl}), "supervised")
    monkeypatch.setattr(choice, "capacity", lambda: less - 1)
    halved = chosen(base, auto, "supervised").sl
    assert (halved.batch_size, halved.gradient_accumulation) == (4, 2)
    monkeypatch.setattr(choice, "capacity", lambda: 1)
    assert chosen(base, auto, "supervised").sl.lora is not None  # the last way of a CPU
    assert chosen(base, settings, "supervised") == settings  # as it is set, unless it says auto


def test_memory_auto_has_ppos_value_model_share_the_trunk_before_it_trains_adapters(
    base: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = settings.model_copy(update={"rl": settings.rl.model_copy(update={"memory": "auto", "algorithm": "ppo"})})
    smallest = {"checkpointing": True, "batch_size": 1, "gradient_accumulation": auto.rl.batch_size}
    shared = choice._Sizes(base, auto, "reinforcement", base).fit({**smallest, "value_model": "shared"}).need.total
    monkeypatch.setattr(choice, "capacity", lambda: shared)
    fitted = chosen(base, auto, "reinforcement", base)
    assert (fitted.rl.value_model, fitted.rl.lora) == ("shared", None)
    assert recipe(fitted, "reinforcement")["value_model"] == "shared"
    grouped = fitted.model_copy(update={"rl": fitted.rl.model_copy(update={"algorithm": "grpo"})})
    assert "value_model" not in recipe(grouped, "reinforcement")
    monkeypatch.setattr(choice, "capacity", lambda: shared - 1)
    assert chosen(base, auto, "reinforcement", base).rl.lora is not None


def test_what_surely_does_not_fit_is_refused_with_what_to_set(
    base: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = as_set(base, settings, "supervised")
    monkeypatch.setattr(choice, "capacity", lambda: int(found.need.total * 0.9))
    found = as_set(base, settings, "supervised")
    assert not found.fits  # an estimate is not exact: it is said, and tried
    refuse_without_memory("sl_policy", found, fitting(base, settings, "supervised"), "supervised")
    monkeypatch.setattr(choice, "capacity", lambda: int(found.need.total * 0.5))
    with pytest.raises(NoMemory, match=r"sl_policy needs about .* memory \(.*\) and has .*: no setting makes it fit"):
        refuse_without_memory("sl_policy", as_set(base, settings, "supervised"),
                              fitting(base, settings, "supervised"), "supervised")
    monkeypatch.setattr(choice, "capacity", lambda: 0)  # where it cannot be told, nothing is refused
    assert as_set(base, settings, "supervised").fits


def test_advice_is_what_one_can_type() -> None:
    changes = {"checkpointing": True, "batch_size": 1, "lora": {"rank": 16}}
    assert choice.said(changes, "supervised") == "sl.checkpointing=true sl.batch_size=1 sl.lora={rank: 16}"


def test_keys_of_old_checkpoints_do_not_know_the_new_settings(settings: Settings) -> None:
    new = {"memory", "checkpointing", "sharding", "liger", "optimizer", "quantized", "packing", "value_model"}
    for kind in GROUPS:
        assert not new & recipe(settings, kind).keys()  # type: ignore[arg-type]
    changed = settings.model_copy(update={"sl": settings.sl.model_copy(update={
        "checkpointing": True, "liger": True, "memory": "auto", "packing": "packed", "optimizer": "adamw_8bit"})})
    assert new & recipe(changed, "supervised").keys() == {"packing", "optimizer"}


def test_sizes_are_read_by_what_a_model_has(base: Path, tmp_path: Path) -> None:
    shape = shape_of(base)
    assert (shape.layers, shape.hidden, shape.queries, shape.keys, shape.inner) == (2, 64, 64, 32, 128)
    assert (shape.norms, shape.normed_heads, shape.gated) == (2, False, True)
    assert len(shape.linear) == 14
    assert shape.adapters(4) == sum(4 * (a + b) for a, b in shape.linear)
    with pytest.raises(OSError, match=r"config\.json"):
        shape_of(tmp_path)
    assert Device("a GPU", ("bfloat16",), accelerator=True).accelerator
