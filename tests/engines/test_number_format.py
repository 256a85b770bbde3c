"""Which number format ``engine.dtype: auto`` is on each kind of device, and that engines and trainers get the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_job, tiny_model

from cai_assets.engines import number_format as module
from cai_assets.engines.models import identify
from cai_assets.engines.number_format import Device, Format, device, gpu, number_format, product_format
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.settings import Engine, Model, load_settings
from cai_assets.store.layout import Layout
from cai_assets.train.identity import recipe
from cai_assets.train.run import trainer_arguments

AVX2 = frozenset({"fma", "avx2"})
AVX512 = AVX2 | {"avx512f", "avx512_vnni"}
DEVICES: list[tuple[Device, Format]] = [
    (module.cpu(AVX2), "float32"), (module.cpu(AVX512), "float32"), (module.cpu(AVX512 | {"avx512_bf16"}), "bfloat16"),
    (module.cpu(AVX512 | {"amx_tile", "amx_bf16"}), "bfloat16"), (module.cpu(frozenset({"asimd", "bf16"})), "bfloat16"),
    (module.cpu(frozenset()), "float32"), (gpu("Tesla T4", (7, 5)), "float16"), (gpu("A100", (8, 0)), "bfloat16"),
    (gpu("H200", (9, 0)), "bfloat16"),
]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    def pretend(here: Device) -> None:
        monkeypatch.setattr(module, "device", lambda: here)
    return pretend


@pytest.mark.parametrize(("here", "dtype"), DEVICES)
def test_auto_is_the_best_format_that_the_device_multiplies(on: Any, here: Device, dtype: Format) -> None:
    on(here)
    chosen = number_format("auto")
    assert chosen.dtype == dtype
    assert here.name in chosen.reason
    assert product_format(chosen.dtype) == dtype


@pytest.mark.parametrize(("here", "_"), DEVICES)
@pytest.mark.parametrize("wanted", ["bfloat16", "float16", "float32"])
def test_an_explicit_format_wins_and_training_never_emulates_it(on: Any, here: Device, _: Format, wanted: Any) -> None:
    on(here)
    chosen = number_format(wanted)
    assert chosen.dtype == wanted
    assert ("emulates" in chosen.reason) == (wanted not in here.multiplies)
    assert product_format(wanted) == (wanted if wanted in here.multiplies else "float32")


def test_onednn_limited_to_older_instructions_counts_as_a_processor_without_the_new(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = AVX512 | {"avx512_bf16"}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert "bfloat16" not in module.cpu(flags).multiplies
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    assert "bfloat16" in module.cpu(flags).multiplies


def test_of_several_gpus_the_weakest_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    capabilities = [(9, 0), (7, 0)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: capabilities[i])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"card {i}")
    found = module.torch_device()
    assert found is not None
    assert found.name.startswith("card 1")
    assert found.multiplies[0] == "float16"


def test_this_machine_has_an_answer_without_importing_torch() -> None:
    assert device().multiplies
    assert "float32" in device().multiplies


@pytest.mark.parametrize(("here", "dtype"), DEVICES)
def test_row_keys_and_checkpoint_keys_hold_the_resolved_format(
    on: Any, here: Device, dtype: Format, tmp_path: Path
) -> None:
    on(here)
    model = tiny_model(tmp_path / "tiny")
    settings = load_settings({"models": {"generator": {"source": str(model), "backend": "transformers"}}},
                             environment={})
    pool = EnginePool(settings, Layout(tmp_path / "data"))
    assert settings.engine.dtype == "auto"
    assert pool.open(settings.models.generator).identity == identify(model).model_copy(update={"dtype": dtype})
    assert pool.open_checkpoint(model).identity.dtype == dtype
    assert recipe(settings, "supervised")["dtype"] == dtype


@pytest.mark.parametrize(("here", "dtype"), DEVICES)
def test_trl_gets_the_same_format(on: Any, here: Device, dtype: Format, tmp_path: Path) -> None:
    on(here)
    settings = load_settings(environment={})
    job = make_job(tmp_path, "supervised", tiny_model(tmp_path / "tiny"), []).model_copy(
        update={"dtype": recipe(settings, "supervised")["dtype"]})
    arguments = trainer_arguments(job, settings.sl)
    assert (arguments["bf16"], arguments["fp16"]) == (dtype == "bfloat16", dtype == "float16")


@pytest.mark.parametrize("here", [module.cpu(AVX2), module.cpu(AVX512 | {"avx512_bf16"})])
def test_trl_s_and_transformers_own_configurations_have_the_same_format(
    on: Any, here: Device, tmp_path: Path
) -> None:
    from trl import RewardConfig, SFTConfig

    on(here)
    model, settings = tiny_model(tmp_path / "tiny"), load_settings(environment={})
    dtype = number_format(settings.engine.dtype).dtype
    job = make_job(tmp_path, "supervised", model, []).model_copy(update={"dtype": dtype})
    for kind, group in ((SFTConfig, settings.sl), (RewardConfig, settings.reward)):
        assert kind(**trainer_arguments(job, group)).bf16 == (dtype == "bfloat16")
    engine = TransformersEngine(model, identify(model), Engine(max_model_len=128))
    assert str(engine._load().model.dtype) == f"torch.{dtype}"
    engine.close()


@pytest.mark.model
@pytest.mark.parametrize("here", [module.cpu(AVX2), module.cpu(AVX512 | {"avx512_bf16"})])
def test_vllm_s_own_configuration_has_the_same_format(on: Any, here: Device, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    from vllm import EngineArgs

    from cai_assets.engines.vllm_arguments import arguments
    from cai_assets.engines.vllm_engine import VllmEngine

    on(here)
    model = tiny_model(tmp_path / "tiny")
    engine = VllmEngine(model, identify(model), Engine(max_model_len=128))
    config = EngineArgs(**arguments(engine.path, engine.context, engine.settings, cpu=True)).create_model_config()
    assert str(config.dtype) == f"torch.{number_format().dtype}" == f"torch.{engine.identity.dtype}"


def test_a_model_that_is_served_elsewhere_has_no_format_of_ours() -> None:
    settings = load_settings({"models": {"generator": Model(
        source="served", base_urls=("http://127.0.0.1:1/v1",)).model_dump()}}, environment={})
    pool = EnginePool(settings, Layout(Path("unused")))
    assert pool.open(settings.models.generator).identity.dtype == ""
