"""Several copies of a model on the GPUs of one machine: vLLM's data parallelism.

vLLM has it only in its asynchronous engine, which starts the copies in processes of their own and gives each request to
the copy that has least to do. Here that engine has the interface of the synchronous one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterable
from typing import Any

# Kills the processes that it was told of as soon as the one that told it is gone.
GUARD = """
import os, signal, sys
pids = [int(line) for line in sys.stdin]
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""


class _Guard:
    """vLLM's processes outlive a parent that is killed, and keep its GPUs: this ends them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", GUARD], stdin=subprocess.PIPE, text=True,
                                         start_new_session=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vllm-guard", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        told = {process.pid for process in multiprocessing.active_children()}  # others'
        while not self._over.wait(0.2):
            for process in multiprocessing.active_children():
                if process.pid not in told:
                    told.add(process.pid)
                    print(process.pid, file=self._process.stdin, flush=True)

    def end(self) -> None:
        """The processes have ended by themselves."""
        self._over.set()
        self._thread.join()
        self._process.kill()
        self._process.wait()


class ParallelEngine:
    """What ``vllm_engine`` uses of ``vllm.LLMEngine``, over several copies. Use from one thread at a time."""

    def __init__(self, given: dict[str, Any]) -> None:
        """``given``: arguments of ``EngineArgs``."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        self._guard = _Guard()
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**given), usage_context=UsageContext.LLM_CLASS)
        self.vllm_config = self._llm.vllm_config
        self.engine_core = self  # which is what is shut down
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def add_request(self, name: str, prompt: Any, params: Any, **rest: Any) -> None:
        self._call(self._begin(name, prompt, params, rest))

    def step(self) -> list[Any]:
        """At least one finished output, and all that are there. Raise what ended the engine."""
        finished = [self._done.get()]
        while not self._done.empty():
            finished.append(self._done.get())
        for output in finished:
            if isinstance(output, BaseException):
                raise output
        return finished

    def abort_request(self, names: Iterable[str]) -> None:
        self._call(self._llm.abort(list(names)))

    def shutdown(self) -> None:
        self._llm.shutdown()
        self._guard.end()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _begin(self, name: str, prompt: Any, params: Any, rest: dict[str, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._finish(name, prompt, params, rest))
        task.add_done_callback(lambda t: None if t.cancelled() else self._done.put(t.exception() or t.result()))

    async def _finish(self, name: str, prompt: Any, params: Any, rest: dict[str, Any]) -> Any:
        return [output async for output in self._llm.generate(prompt, params, name, **rest)][-1]

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
