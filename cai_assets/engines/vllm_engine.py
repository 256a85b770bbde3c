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
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from cai_assets import settings
from cai_assets.engines import thoughts
from cai_assets.engines.folder_engine import FolderEngine
from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import NOT_YET, ModelIdentity, Request, Result
from cai_assets.engines.templating import Templater
from cai_assets.engines.vllm_arguments import arguments, can_have_adapters, check, numbers
from cai_assets.engines.vllm_environment import prepare_environment
from cai_assets.engines.vllm_parallel import ParallelEngine
from cai_assets.store import this_run

QUEUED_PER_SLOT = 4
ADVICE = ("lower engine.max_num_seqs, engine.max_model_len or engine.gpu_memory_utilization, or choose "
          "backend 'transformers'; rows finished so far are kept")


class _Loaded(NamedTuple):
    """``limit``: requests to keep in the engine, several for each that it works on."""

    engine: Any
    templater: Templater
    limit: int


class VllmEngine(FolderEngine):
    """One model folder served by vLLM. Use from one thread at a time."""

    flows = True

    def __init__(self, path: Path, identity: ModelIdentity, engine: settings.Engine) -> None:
        """Raise ModelError for an argument in ``engine.vllm`` that vLLM does not take."""
        check(engine.vllm)
        super().__init__(path, identity.model_copy(update={"arguments": numbers(engine.vllm)}), engine)
        self._loaded: _Loaded | None = None
        self._ids = itertools.count()
        self._adapters: dict[Path, int] = {}  # with the numbers by which vLLM tells them apart

    @property
    def takes_adapters(self) -> bool:
        """Whether there is a place for adapters, and vLLM has some for models of this kind. It imports vLLM."""
        if not self.settings.vllm.get("enable_lora"):
            return False
        prepare_environment(self.settings.cpu_kv_cache_gib)
        return can_have_adapters(self.path)

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish. Raise EngineLost when the engine dies twice."""
        return self._run(requests, {})

    def run_adapted(self, requests: Iterable[Request], adapters: Path) -> Iterator[Result]:
        """As ``run``, by the model with the adapters in a folder."""
        from vllm.lora.request import LoRARequest

        number = self._adapters.setdefault(adapters, len(self._adapters) + 1)
        return self._run(requests, {"lora_request": LoRARequest(str(adapters), number, str(adapters))})

    def _run(self, requests: Iterable[Request], how: dict[str, Any]) -> Iterator[Result]:
        """``how``: further arguments of vLLM's ``add_request``."""
        source = iter(requests)
        waiting: dict[str, Request] = {}
        deaths, limit = 0, 1  # submit the first alone: the shared prefix is then computed once and cached
        try:
            while True:
                yield from self._fill(source, waiting, limit, how)
                if not waiting:
                    return
                try:
                    loaded = self._load()
                    finished = loaded.engine.step()
                except EngineLost:
                    raise
                except Exception as e:
                    deaths += 1
                    self._rebuild(e, deaths, waiting, how)
                    continue
                limit = loaded.limit
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

    def _fill(
        self, source: Iterator[Request], waiting: dict[str, Request], limit: int, how: dict[str, Any]
    ) -> Iterator[Result]:
        """Keep ``limit`` requests in the engine; yield the errors of those that cannot enter it."""
        while len(waiting) < limit and (request := next(source, NOT_YET)) is not NOT_YET:
            name = str(next(self._ids))
            try:
                self._submit(name, request, how)
            except (ValueError, TypeError) as e:
                yield Result(row_key=request.row_key, error=str(e), refused=True)
            else:
                waiting[name] = request

    def _submit(self, name: str, request: Request, how: dict[str, Any]) -> None:
        engine, templater, _ = self._load()
        ids = templater.encode_within(request.call, self.context, request.thought)
        engine.add_request(name, {"prompt_token_ids": ids}, _sampling_params(request, templater), **how)

    def _rebuild(self, cause: Exception, deaths: int, waiting: dict[str, Request], how: dict[str, Any]) -> None:
        with suppress(Exception):
            self.close()
        if deaths > 1:
            what = f"{type(cause).__name__}: {cause}"
            raise EngineLost(f"vLLM died twice on {self.path.name} ({what}); {ADVICE}") from cause
        logging.getLogger(__name__).warning("vLLM died (%s); restarting it for %d rows", cause, len(waiting))
        for name, request in waiting.items():
            self._submit(name, request, how)

    def _load(self) -> _Loaded:
        if self._loaded is None:
            prepare_environment(self.settings.cpu_kv_cache_gib)
            from vllm.platforms import current_platform

            given = arguments(self.path, self.context, self.settings, cpu=current_platform.is_cpu())
            if given.get("enable_lora") and not self.takes_adapters:
                this_run.tell(f"vLLM takes no adapters for models like {self.path.name}: policies are loaded whole")
                given["enable_lora"] = False
            try:
                engine = _start(given)
            except Exception as e:
                advice = "see engine.vllm" if self.settings.vllm and isinstance(e, ValueError) else ADVICE
                raise EngineLost(f"vLLM cannot start {self.path.name} ({_reason(e)}); {advice}") from e
            slots = engine.vllm_config.scheduler_config.max_num_seqs * given.get("data_parallel_size", 1)
            self._loaded = _Loaded(engine, self.templater(), slots * QUEUED_PER_SLOT)
        return self._loaded


def _start(given: dict[str, Any]) -> Any:
    """The engine of one copy of the model, or of several side by side."""
    if given.get("data_parallel_size", 1) > 1:
        return ParallelEngine(given)
    from vllm import EngineArgs, LLMEngine
    from vllm.usage.usage_lib import UsageContext

    # vLLM's defaults go by how it is used: those of many prompts at once are the ones for throughput.
    return LLMEngine.from_engine_args(EngineArgs(**given), usage_context=UsageContext.LLM_CLASS)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


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
        skip_special_tokens=not templater.decode_all,
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
    return thoughts.result(request, templater.said(request.call, answer.text, request.thought), answer.finish_reason,
                           kept=templater.keeps_thoughts, **counts)
