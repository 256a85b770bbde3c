"""``engine.vllm``: what is passed on, refused, and part of row keys; held against the real ``EngineArgs``."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cai_assets.engines.keys import row_payload
from cai_assets.engines.models import EngineLost, ModelError
from cai_assets.engines.prefixes import beginning
from cai_assets.engines.protocol import Call, ModelIdentity
from cai_assets.engines.vllm_arguments import OURS, REFUSED, SAME_NUMBERS, arguments, names, numbers
from cai_assets.engines.vllm_engine import VllmEngine
from cai_assets.engines.vllm_environment import prepare_environment
from cai_assets.settings import Engine, SettingsError, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
EXAMPLE = re.compile(r"```yaml\n(engine:.*?)```", re.DOTALL)
IDENTITY = ModelIdentity(weights="w", tokenizer="t", template="c", dtype="bfloat16")
CALL = Call(messages=({"role": "user", "content": "q"},), answers=("A", "B"))


def engine(**given: Any) -> Engine:
    return load_settings({"engine": {"vllm": given}}, environment={}).engine


def key_of(**given: Any) -> str:
    return row_payload("label", 1, CALL, VllmEngine(Path("m"), IDENTITY, engine(**given)).identity, 0)


def test_names_are_those_of_the_installed_vllm() -> None:
    pytest.importorskip("vllm")
    from vllm import EngineArgs

    assert names() == {name for name in EngineArgs.__dataclass_fields__ if not name.startswith("_")}


def test_every_name_that_is_decided_on_here_is_one_of_them_and_decided_once() -> None:
    decided = [*OURS, *REFUSED, *SAME_NUMBERS]
    assert len(decided) == len(set(decided))
    assert set(decided) - names() == set()


def test_what_only_schedules_or_spreads_the_work_changes_no_number() -> None:
    """By the classes that vLLM itself sorts its arguments into."""
    pytest.importorskip("vllm")
    import dataclasses

    from vllm.config import ObservabilityConfig, OffloadConfig, ParallelConfig, SchedulerConfig

    arranged = {f.name for c in (ObservabilityConfig, OffloadConfig, ParallelConfig, SchedulerConfig)
                for f in dataclasses.fields(c)} & names()
    assert arranged - SAME_NUMBERS - set(OURS) - set(REFUSED) == set()


@pytest.mark.parametrize(("given", "says"), [
    ({"tensor_parallel_size": 2}, "set engine.tensor_parallel_size instead"),
    ({"model": "x"}, "set models.*.source instead"),
    ({"trust_remote_code": True}, "runs code"),
    ({"hf_token": "x"}, "secret"),
    ({"nnodes": 2}, "base_urls"),
    ({"load_format": "pt"}, "pickled"),
    ({"quantisation": "fp8"}, "did you mean quantization"),
    ({"no_such_thing_at_all": 1}, "no such argument"),
])
def test_refused_before_anything_is_run(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        VllmEngine(Path("m"), IDENTITY, engine(**given))
    assert f"engine.vllm.{next(iter(given))}" in str(caught.value)


def test_what_changes_numbers_enters_the_key_and_the_rest_does_not() -> None:
    unset = key_of()
    for arranged in ({"max_num_batched_tokens": 8192}, {"data_parallel_size": 8}, {"pipeline_parallel_size": 2},
                     {"enable_expert_parallel": True}, {"performance_mode": "throughput"}, {"block_size": 32}):
        assert key_of(**arranged) == unset
    changed = [key_of(**given) for given in (
        {"quantization": "fp8"}, {"quantization": "awq"}, {"kv_cache_dtype": "fp8"},
        {"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}}, {"hf_overrides": {"a": 1}})]
    assert len({unset, *changed}) == 1 + len(changed)
    assert key_of(quantization="fp8", max_num_batched_tokens=64) == changed[0]
    assert key_of(quantization=None) == unset


def test_keys_without_such_arguments_are_as_they_were() -> None:
    assert "arguments" not in IDENTITY.model_dump()
    assert "arguments" not in key_of(seed=3)
    quantized = IDENTITY.model_copy(update={"arguments": numbers({"quantization": "fp8"})})
    assert ModelIdentity.model_validate(quantized.model_dump()) == quantized != IDENTITY


def test_what_is_unset_is_left_to_vllm() -> None:
    given = arguments(Path("m"), 4096, Engine(), cpu=False)
    assert not given.keys() & {"max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "enforce_eager"}
    asked = Engine(max_num_seqs=64, gpu_memory_utilization=0.5, vllm={"kv_cache_dtype": "fp8"})
    assert {"max_num_seqs": 64, "gpu_memory_utilization": 0.5, "kv_cache_dtype": "fp8"}.items() <= \
        arguments(Path("m"), 4096, asked, cpu=False).items()


@pytest.mark.model
@pytest.mark.parametrize(("given", "gpus"), [
    ({}, 1), ({"tensor_parallel_size": 8}, 8), ({"vllm": {"data_parallel_size": 8}}, 8),
    ({"tensor_parallel_size": 2, "vllm": {"data_parallel_size": 4, "pipeline_parallel_size": 2}}, 16), (None, 8),
])
def test_vllm_makes_its_configuration_of_them(given: dict[str, Any] | None, gpus: int, tmp_path: Path) -> None:
    """For 1, 8 and 16 GPUs, and for the example of docs/gpu.md."""
    pytest.importorskip("vllm")
    prepare_environment()
    from transformers import LlamaConfig
    from vllm import EngineArgs
    from vllm.usage.usage_lib import UsageContext

    LlamaConfig(hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192,
                num_hidden_layers=32, dtype="bfloat16", architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    example = yaml.safe_load(EXAMPLE.search(PAGE.read_text(encoding="utf-8"))[1])
    asked = load_settings({"engine": {"dtype": "bfloat16", **given}} if given is not None else example,
                          environment={}).engine
    config = EngineArgs(**arguments(tmp_path, 4096, asked, cpu=False)).create_engine_config(UsageContext.LLM_CLASS)
    assert config.parallel_config.world_size_across_dp == asked.gpus == gpus
    assert config.scheduler_config.max_num_seqs >= 256
    assert (config.quant_config is None) == (given is not None)


def test_a_cpu_keeps_chunked_prefill_off() -> None:
    assert arguments(Path("m"), 4096, Engine(), cpu=True)["enable_chunked_prefill"] is False
    with pytest.raises(EngineLost, match="enable_chunked_prefill: on a CPU"):
        arguments(Path("m"), 4096, Engine(vllm={"enable_chunked_prefill": True}), cpu=True)


@pytest.mark.parametrize(("given", "gpus"), [({}, 1), ({"data_parallel_size": 8}, 8),
                                             ({"data_parallel_size": 4, "pipeline_parallel_size": 2}, 8)])
def test_gpus_are_counted(given: dict[str, Any], gpus: int) -> None:
    assert Engine(vllm=given).gpus == gpus
    assert Engine(vllm=given, tensor_parallel_size=2).gpus == 2 * gpus


def test_a_run_config_cannot_set_them() -> None:
    with pytest.raises(SettingsError, match=r"engine\.vllm is not for a run to choose"):
        load_settings(run_config={"engine": {"vllm": {"kv_cache_dtype": "fp8"}}}, environment={})


def test_requests_that_begin_alike_are_next_to_each_other() -> None:
    calls = [Call(messages=({"role": "system", "content": s}, {"role": "user", "content": u}), answers=("A", "B"))
             for s in ("one", "two") for u in ("x", "y", "z")]
    shuffled = random.Random(1).sample(calls, len(calls))
    assert sorted(shuffled, key=beginning) == calls
