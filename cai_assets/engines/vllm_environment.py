"""What must be set before vLLM is first imported in a process."""

from __future__ import annotations

import logging
import os
import warnings

from cai_assets.engines.number_format import device


def prepare_environment(cpu_kv_cache_gib: int = 1) -> None:
    """Environment variables that vLLM and OpenMP read on first import; values the user has set are kept."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name, value in {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CONFIGURE_LOGGING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(cpu_kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # busy waiting halves the speed when another process shares the cores
        "TOKENIZERS_PARALLELISM": "false",
        # On a CPU vLLM compiles one function, which ranks log-probabilities: 8 s for a row, in every process and shape.
        **({} if device().accelerator else {"TORCH_COMPILE_DISABLE": "1"}),
    }.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
    if logging.getLogger("vllm").level == logging.NOTSET:
        logging.getLogger("vllm").setLevel(logging.ERROR)
