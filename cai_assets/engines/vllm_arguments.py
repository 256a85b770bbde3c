"""What vLLM is started with: our settings, and whatever else ``engine.vllm`` names of its ``EngineArgs``.

What is not set is left to vLLM, whose defaults follow the device. An argument enters row keys unless it only arranges
the same computation in another way, as another GPU would: then rows made without it are reused.
"""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cai_assets import settings
from cai_assets.engines.models import EngineLost, ModelError
from cai_assets.store.canonical import canonical_json

CPU_BATCHED_TOKENS = 8192
ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM makes a place

OURS = {
    **dict.fromkeys(("model", "model_weights", "tokenizer", "hf_config_path", "served_model_name"), "models.*.source"),
    **dict.fromkeys(("revision", "code_revision", "tokenizer_revision"), "models.*.revision"),
    **{name: f"engine.{name}" for name in ("dtype", "max_model_len", "max_num_seqs", "tensor_parallel_size",
                                           "gpu_memory_utilization")},
}
"""Arguments that have a setting of their own."""

REFUSED = {
    **dict.fromkeys(("trust_remote_code", "worker_cls", "worker_extension_cls", "scheduler_cls", "logits_processors",
                     "io_processor_plugin", "reasoning_parser_plugin", "model_class_overrides"),
                    "it runs code that is not vLLM's"),
    **dict.fromkeys(("generation_config", "override_generation_config"),
                    "how texts are sampled is set by the stages' own settings, such as generation.temperature"),
    **dict.fromkeys(("runner", "convert", "skip_tokenizer_init", "tokens_only", "enable_prompt_embeds",
                     "pooler_config"), "models write texts here"),
    **dict.fromkeys(("nnodes", "node_rank", "master_addr", "master_port", "data_parallel_rank",
                     "data_parallel_start_rank", "data_parallel_size_local", "data_parallel_address",
                     "data_parallel_rpc_port", "data_parallel_hybrid_lb", "data_parallel_external_lb",
                     "data_parallel_multi_port_external_lb"),
                    "models run here on one machine; for several, serve the model and name models.*.base_urls"),
    "hf_token": "a secret does not belong into settings; set the environment variable HF_TOKEN",
}
"""Arguments that are not passed on, and why."""

PICKLED = ("pt", "npcache")

SAME_NUMBERS = frozenset({
    # which device computes what
    "data_parallel_size", "data_parallel_backend", "pipeline_parallel_size", "prefill_context_parallel_size",
    "decode_context_parallel_size", "dcp_comm_backend", "dcp_q_replicate", "dcp_kv_cache_interleave_size",
    "cp_kv_cache_interleave_size", "enable_expert_parallel", "enable_ep_weight_filter", "all2all_backend",
    "enable_elastic_ep", "elastic_ep_max_dp_size", "expert_placement_strategy", "enable_eplb", "eplb_config",
    "enable_dbo", "ubatch_size", "dbo_decode_token_threshold", "dbo_prefill_token_threshold", "dp_sync_interval",
    "disable_nccl_for_dp_synchronization", "disable_custom_all_reduce", "enable_shm_tensor_arena", "device_ids",
    "distributed_executor_backend", "distributed_timeout_seconds", "cpu_distributed_timeout_seconds", "numa_bind",
    "numa_bind_nodes", "numa_bind_cpus", "max_parallel_loading_workers", "ray_workers_use_nsight", "enable_hc_sp",
    "enable_batch_sharded_sampling", "fault_tolerance_config", "enable_fault_tolerance",
    # what is computed together, and when
    "max_num_batched_tokens", "max_num_scheduled_tokens", "max_num_active_seqs", "max_num_queued_reqs",
    "max_num_queued_tokens", "enable_chunked_prefill", "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive", "disable_chunked_mm_input", "scheduler_reserve_full_isl",
    "prefill_schedule_interval", "watermark", "disable_hybrid_kv_cache_manager", "scheduling_policy",
    "async_scheduling", "stream_interval", "renderer_num_workers",
    # where weights and caches lie
    "enable_prefix_caching", "prefix_caching_hash_algo", "prefix_cache_retention_interval", "block_size",
    "kv_cache_memory_bytes", "num_gpu_blocks_override", "kv_offloading_size", "kv_offloading_backend",
    "offload_backend", "cpu_offload_gb", "cpu_offload_params", "offload_group_size", "offload_num_in_group",
    "offload_prefetch_step", "offload_params", "download_dir", "safetensors_load_strategy",
    "safetensors_prefetch_num_threads", "safetensors_prefetch_block_size", "use_tqdm_on_load", "enable_sleep_mode",
    "sleep_mode_offload_cudagraph", "sleep_preserve_parameter_names", "enable_cumem_allocator",
    "enable_nccl_comm_suspend",
    # with which kernels
    "performance_mode", "optimization_level", "enforce_eager", "compilation_config", "cudagraph_capture_sizes",
    "max_cudagraph_capture_size", "attention_backend", "disable_cascade_attn", "moe_backend", "linear_backend",
    "enable_flashinfer_autotune", "mamba_backend", "gdn_prefill_backend", "kda_prefill_backend", "kda_decode_backend",
    # whether there is a place for adapters, which no model has by itself
    "enable_lora", "max_loras", "max_lora_rank", "max_cpu_loras", "specialize_active_lora",
    # what is counted and said; the seed of requests that have none, as ours have
    "disable_log_stats", "aggregate_engine_logging", "logging_config", "log_level", "log_config_file",
    "show_hidden_metrics_for_version", "otlp_traces_endpoint", "collect_detailed_traces",
    "per_request_spec_decode_metrics", "kv_cache_metrics", "kv_cache_metrics_sample", "custom_histogram_buckets",
    "cudagraph_metrics", "enable_layerwise_nvtx_tracing", "enable_mfu_metrics", "enable_logging_iteration_details",
    "jit_monitor_mode", "jit_monitor_verbose", "enable_mm_processor_stats", "profiler_config", "max_logprobs",
    "shutdown_timeout", "seed",
})
"""Arguments under which a model computes the same, but for the order of sums. What is not here enters row keys."""


def check(given: Mapping[str, Any]) -> None:
    """Raise ModelError for an argument that vLLM does not have, that another setting sets, or that is refused."""
    for name, value in given.items():
        what = f"engine.vllm.{name}"
        if name in OURS:
            raise ModelError(f"{what}: set {OURS[name]} instead")
        if name in REFUSED:
            raise ModelError(f"{what}: {REFUSED[name]}")
        if name == "load_format" and value in PICKLED:
            raise ModelError(f"{what}: {value!r} reads pickled weights, which can run code; use safetensors")
        if (known := names()) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ModelError(f"{what}: vLLM's EngineArgs has no such argument"
                             + (f"; did you mean {near[0]}?" if near else ""))


def numbers(given: Mapping[str, Any]) -> str:
    """Those of the arguments that can change an output, as canonical JSON; empty if there are none."""
    deciding = {name: value for name, value in given.items() if name not in SAME_NUMBERS and value is not None}
    return canonical_json(deciding) if deciding else ""


def arguments(path: Path, context: int, engine: settings.Engine, *, cpu: bool) -> dict[str, Any]:
    """The arguments of ``EngineArgs`` for a model folder. Raise EngineLost for one that a CPU cannot do."""
    if cpu and engine.vllm.get("enable_chunked_prefill"):
        raise EngineLost("engine.vllm.enable_chunked_prefill: on a CPU it ends vLLM's engine as soon as requests have "
                         "seeds, as all here have; leave it out")
    own = {name: getattr(engine, name) for name in ("max_num_seqs", "gpu_memory_utilization")}
    return {
        "model": str(path),
        "dtype": engine.dtype,
        "max_model_len": context,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # the model's own defaults must not change a sample unnoticed by the row key
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **{name: value for name, value in own.items() if value is not None},
        **(_of_cpu(context) if cpu else {}),
        **engine.vllm,
    }


def with_place_for_adapters(engine: settings.Engine, rank: int) -> settings.Engine:
    """Settings of an engine that can run its model with adapters of this rank, unless ``engine.vllm`` says otherwise;
    those given, if vLLM takes none so large."""
    place = next((size for size in ADAPTER_RANKS if size >= rank), None)
    return engine if place is None else engine.model_copy(update={
        "vllm": {"enable_lora": True, "max_lora_rank": place, **engine.vllm}})


@lru_cache
def can_have_adapters(path: Path) -> bool:
    """Whether vLLM's code for the model in a folder takes adapters. It imports that code, in seconds."""
    from vllm import ModelRegistry
    from vllm.model_executor.models import supports_lora

    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    kinds = [ModelRegistry.models[name] for name in config.get("architectures") or () if name in ModelRegistry.models]
    return bool(kinds) and supports_lora(kinds[0].load_model_cls())


def _of_cpu(context: int) -> dict[str, Any]:
    return {"enforce_eager": True, "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(context, CPU_BATCHED_TOKENS)}


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """The arguments that the installed vLLM has, read from its source: to import it takes seconds. Empty without it."""
    spec = find_spec("vllm")
    files = [Path(folder) / "engine" / "arg_utils.py" for folder in (spec and spec.submodule_search_locations) or ()]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    fields = [part.target.id for tree in trees for node in tree.body
              if isinstance(node, ast.ClassDef) and node.name == "EngineArgs" for part in node.body
              if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    return frozenset(name for name in fields if not name.startswith("_"))
