"""The engine of a served model: one or more servers, with as many rows in flight as they take (``limit.py``).

Every reply is untrusted (``reply.py``), every attempt has a deadline (``client.py``), a server that fails loses its
turn (``fleet.py``), and a row is retried elsewhere (``rows.py``).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cai_assets import settings
from cai_assets.engines import thoughts
from cai_assets.engines.models import EngineLost, identify_tokenizer, refuse_thinking, told
from cai_assets.engines.protocol import NOT_YET, ModelIdentity, Request, Result
from cai_assets.engines.served.body import Kind, Writer
from cai_assets.engines.served.client import Client
from cai_assets.engines.served.dialect import Dialect, helped
from cai_assets.engines.served.first import First
from cai_assets.engines.served.fleet import Fleet
from cai_assets.engines.served.limit import MOST
from cai_assets.engines.served.rows import Row, Rows
from cai_assets.engines.templating import Templater, load_tokenizer

Done = queue.SimpleQueue[Result | Exception | None]  # an exception ends the run; None: look for more requests


class ServedEngine:
    """One served model name behind one or more base URLs."""

    flows = aside = True

    def __init__(self, model: settings.Model, engine: settings.Engine, *, first_delay: float = 0.5) -> None:
        """``first_delay``: seconds, the upper bound of a row's first wait, and a server's first pause; both double."""
        if not model.base_urls:
            raise ValueError(f"model {model.source!r} has backend 'openai' but no base_urls; name at least one server")
        self.model, self.settings, self.first_delay = model, engine, first_delay
        self._identity = served_identity(model)
        self._fleet: Fleet | None = None
        self._dialect = Dialect()
        self._answered: set[Kind] = set()
        self._writer: Writer | None = None
        self._turn = itertools.count()
        self._done = Done()

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish. Raise EngineLost if no server serves any of them."""
        if self.model.tokenizer:
            refuse_thinking(self._identity.thinking, Path(self.model.tokenizer))
        self._writer = self._writer or Writer(self.model.source, self._templater(), self.settings.max_model_len)
        source, running = iter(requests), 0
        self._done = done = Done()
        with _event_loop() as loop:
            rows = asyncio.run_coroutine_threadsafe(self._connect(), loop).result()
            try:
                while True:
                    room = itertools.islice(source, max(0, rows.fleet.room - running))
                    more = list(itertools.takewhile(lambda request: request is not NOT_YET, room))
                    if not (running := running + len(more)):
                        return
                    loop.call_soon_threadsafe(self._start, more, rows, done)
                    for result in _ready(done):
                        running -= 1
                        yield result
            finally:
                asyncio.run_coroutine_threadsafe(_disconnect(rows), loop).result()

    def wake(self, end: Exception | None = None) -> None:
        """Look for more requests, though none of those under way has ended; or end the run so. From any thread."""
        self._done.put(end)

    @property
    def servers(self) -> dict[str, str]:
        """How fast each has answered in this process."""
        every = self._fleet.servers if self._fleet else []
        return {str(s.client.address): f"{s.flight} in flight, {s.seen}" for s in every}

    def close(self) -> None:
        """Only the tokenizer is freed. Which servers were out of turn is kept: they still are."""
        self._writer = None

    def _templater(self) -> Templater | None:
        if self.model.tokenizer is None:
            return None
        return Templater(load_tokenizer(Path(self.model.tokenizer)), self._identity.thinking)

    async def _connect(self) -> Rows:
        key, engine = os.environ.get(self.model.api_key_env, "").strip(), self.settings
        most = MOST if engine.concurrency == "auto" else engine.concurrency
        clients = [Client(a, key, engine.request_timeout, most) for a in self.model.base_urls]
        self._fleet = Fleet(clients, self._fleet, patience=engine.patience, pause=self.first_delay,
                            concurrency=engine.concurrency)
        served = (self.model.source, *self.model.served_as)
        return Rows(self._fleet, self._dialect, First(self._answered), served, engine.retries, self.first_delay)

    def _start(self, requests: Iterable[Request], rows: Rows, done: Done) -> None:
        for request in requests:
            task = asyncio.get_running_loop().create_task(self._answer(request, rows))
            task.add_done_callback(lambda t: None if t.cancelled() else done.put(_end(t)))

    async def _answer(self, request: Request, rows: Rows) -> Result:
        assert self._writer is not None  # noqa: S101 - made when the run began
        try:
            body = self._writer(request)
        except ValueError as e:
            return Result(row_key=request.row_key, error=str(e), refused=True)
        try:
            return self._told_apart(request, await rows.answer(Row(request, body, next(self._turn))))
        except EngineLost as e:
            raise EngineLost(helped(f"no server serves model {self.model.source!r} ({e}); check base_urls, the served "
                                    f"model name and the key in {self.model.api_key_env}, or see engine.patience")
                             ) from None

    def _told_apart(self, request: Request, result: Result) -> Result:
        """Thought and answer of a reply: as the server told them apart, or by the tags in its text."""
        if result.error or request.call.sampling is None:
            return result
        templater = self._writer.templater if self._writer else None
        if result.thought:
            said = thoughts.Said("valid", result.thought, result.text)
        elif templater is not None:
            said = templater.said(request.call, result.text, request.thought)
        else:
            said = thoughts.split(result.text, *thoughts.TAGS, anywhere=False)
        return thoughts.result(request, said, "length" if result.finish == "length" else "stop",
                               kept=self._identity.keeps_thoughts, adapted=result.adapted,
                               prompt_tokens=result.prompt_tokens, completion_tokens=result.completion_tokens)


def served_identity(model: settings.Model) -> ModelIdentity:
    """A server does not expose its weights: name and revision stand for them, so pin ``revision``."""
    name = f"served:{model.source}@{model.revision or 'unpinned'}"
    if model.tokenizer is None:
        return ModelIdentity(weights=name, tokenizer=name, template=name,
                             thinking="" if model.thinking == "off" else model.thinking)
    tokenizer, template = identify_tokenizer(Path(model.tokenizer))
    return ModelIdentity(weights=name, tokenizer=tokenizer, template=template,
                         thinking=told(model, Path(model.tokenizer)))


def _end(task: asyncio.Task[Result]) -> Result | Exception:
    try:
        return task.result()
    except Exception as e:
        return e


def _ready(done: Done) -> Iterator[Result]:
    """All that are there: at least one, unless more requests may be. Raise what ended the run."""
    one = done.get()
    while True:
        if isinstance(one, Exception):
            raise one
        if one is not None:
            yield one
        try:
            one = done.get_nowait()
        except queue.Empty:
            return


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="served-engine", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _disconnect(rows: Rows) -> None:
    unfinished = asyncio.all_tasks() - {asyncio.current_task()}
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
    for server in rows.fleet.servers:
        await server.client.close()
