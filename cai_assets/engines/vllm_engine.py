"""vLLM in this process, on CPU or GPU.

Prompts enter as token ids and are fed continuously, so that the batch never runs dry. A prompt that cannot be
served is answered with an error before it reaches the engine. If the engine dies it is restarted once and
unfinished requests are resubmitted. Measured on two cores with the bundled model: 345-365 tokens/s at 32 sequences;
24 s to start, 2.5 s to restart in the same process; ``close`` frees everything but what imports hold.

On CPU, chunked prefill is off: together with per-request seeds it kills vLLM 0.32's engine.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets import settings
from cai_assets.engines.folder_engine import FolderEngine
from cai_assets.engines.models import EngineLost
from cai_assets.engines.number_format import device
from cai_assets.engines.protocol import NOT_YET, ModelIdentity, Request, Result
from cai_assets.engines.templating import Templater, load_tokenizer

QUEUED_PER_SLOT = 4
CPU_BATCHED_TOKENS = 8192
ADVICE = ("lower engine.max_num_seqs, engine.max_model_len or engine.gpu_memory_utilization, or choose "
          "backend 'transformers'; rows finished so far are kept")


class _Loaded(NamedTuple):
    engine: Any
    templater: Templater


class VllmEngine(FolderEngine):
    """One model folder served by vLLM. Use from one thread at a time."""

    flows = True

    def __init__(self, path: Path, identity: ModelIdentity, engine: settings.Engine) -> None:
        super().__init__(path, identity, engine)
        self._loaded: _Loaded | None = None
        self._ids = itertools.count()

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish. Raise EngineLost when the engine dies twice."""
        source = iter(requests)
        waiting: dict[str, Request] = {}
        deaths, limit = 0, 1  # submit the first alone: the shared prefix is then computed once and cached
        try:
            while True:
                yield from self._fill(source, waiting, limit)
                if not waiting:
                    return
                try:
                    loaded = self._load()
                    finished = loaded.engine.step()
                except EngineLost:
                    raise
                except Exception as e:
                    deaths += 1
                    self._rebuild(e, deaths, waiting)
                    continue
                limit = self.settings.max_num_seqs * QUEUED_PER_SLOT
                for output in finished:
                    if output.request_id in waiting:
                        request = waiting.pop(output.request_id)
                        yield _result(request, output, loaded.templater, self.adapted(loaded.templater, request))
        finally:
            if waiting and self._loaded is not None:
                with suppress(Exception):
                    self._loaded.engine.abort_request(list(waiting))

    def close(self) -> None:
        if self._loaded is None:
            return
        core, self._loaded = self._loaded.engine.engine_core, None
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        with suppress(Exception):
            core.shutdown()
        del core
        cleanup_dist_env_and_memory()
        if sys.platform == "linux":
            with suppress(OSError, AttributeError):  # not every C library has it
                ctypes.CDLL(None).malloc_trim(0)

    def _fill(self, source: Iterator[Request], waiting: dict[str, Request], limit: int) -> Iterator[Result]:
        """Keep ``limit`` requests in the engine; yield the errors of those that cannot enter it."""
        while len(waiting) < limit and (request := next(source, NOT_YET)) is not NOT_YET:
            name = str(next(self._ids))
            try:
                self._submit(name, request)
            except (ValueError, TypeError) as e:
                yield Result(row_key=request.row_key, error=str(e), refused=True)
            else:
                waiting[name] = request

    def _submit(self, name: str, request: Request) -> None:
        engine, templater = self._load()
        ids = templater.encode_within(request.call, self.context)
        engine.add_request(name, {"prompt_token_ids": ids}, _sampling_params(request, templater))

    def _rebuild(self, cause: Exception, deaths: int, waiting: dict[str, Request]) -> None:
        with suppress(Exception):
            self.close()
        if deaths > 1:
            what = f"{type(cause).__name__}: {cause}"
            raise EngineLost(f"vLLM died twice on {self.path.name} ({what}); {ADVICE}") from cause
        logging.getLogger(__name__).warning("vLLM died (%s); restarting it for %d rows", cause, len(waiting))
        for name, request in waiting.items():
            self._submit(name, request)

    def _load(self) -> _Loaded:
        if self._loaded is None:
            _prepare_environment(self.settings)
            from vllm import EngineArgs, LLMEngine
            from vllm.platforms import current_platform

            arguments = _arguments(self.path, self.context, self.settings, cpu=current_platform.is_cpu())
            try:
                engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
            except Exception as e:
                raise EngineLost(f"vLLM cannot start {self.path.name} ({type(e).__name__}: {e}); {ADVICE}") from e
            self._loaded = _Loaded(engine, Templater(load_tokenizer(self.path)))
        return self._loaded


def _prepare_environment(engine: settings.Engine) -> None:
    """Environment variables that vLLM and OpenMP read on first import; values the user has set are kept."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name, value in {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CONFIGURE_LOGGING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(engine.cpu_kv_cache_gib),
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


def _arguments(path: Path, context: int, engine: settings.Engine, *, cpu: bool) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "model": str(path),
        "dtype": engine.dtype,
        "max_model_len": context,
        "max_num_seqs": engine.max_num_seqs,
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # the model's own defaults must not change a sample unnoticed by the row key
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "tensor_parallel_size": engine.tensor_parallel_size,
    }
    if cpu:
        batched = max(context, CPU_BATCHED_TOKENS)
        return {**shared, "enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": batched}
    return {**shared, "gpu_memory_utilization": engine.gpu_memory_utilization}


def _sampling_params(request: Request, templater: Templater) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = request.call.sampling
    if sampling is None:
        tokens = list(templater.answer_tokens(request.call.answers))
        return SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=tokens, detokenize=False,
                              output_kind=RequestOutputKind.FINAL_ONLY)
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=request.seed,
        stop=list(templater.stops(request.call)),
        stop_token_ids=list(templater.stop_token_ids),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _result(request: Request, output: Any, templater: Templater, adapted: tuple[str, ...]) -> Result:
    answer = output.outputs[0]
    counts: dict[str, Any] = {"prompt_tokens": len(output.prompt_token_ids), "adapted": adapted,
                              "completion_tokens": len(answer.token_ids)}
    if request.call.sampling is None:
        by_token = answer.logprobs[0]
        logprobs = tuple(float(by_token[t].logprob) for t in templater.answer_tokens(request.call.answers))
        return Result(row_key=request.row_key, finish="score", logprobs=logprobs, **counts)
    if answer.finish_reason not in ("stop", "length"):
        return Result(row_key=request.row_key, error=f"vLLM ended the row with {answer.finish_reason!r}", **counts)
    return Result(row_key=request.row_key, text=answer.text, finish=answer.finish_reason, **counts)
