"""OpenAI-compatible servers: one, or a fleet that takes turns.

Every reply is read as untrusted text and validated; HTML with status 200, cut JSON, an empty choice, null
content, a missing finish reason or another model's name are failures, and are retried on another server. Each
attempt has a deadline; retries wait with full jitter, honor Retry-After up to a cap, and share a budget, so
that a dead fleet fails rows quickly. With a local tokenizer prompts travel as token ids; without one,
contents are neutralized first. No API key and no user name in an address appears in any message.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from cai_assets import settings
from cai_assets.engines.models import EngineLost, identify_tokenizer
from cai_assets.engines.openai_reply import EXCERPT, Unusable, read_reply
from cai_assets.engines.protocol import Call, ModelIdentity, Request, Result
from cai_assets.engines.templating import Templater, load_tokenizer, neutralize

LONGEST_DELAY = 30.0
LONGEST_RETRY_AFTER = 60.0
FREE_RETRIES = 100.0
EARNED_RETRIES = 0.2
"""Retries that a run may spend in a burst, and how many each success adds."""
TOP_LOGPROBS = 20


class OpenAIEngine:
    """One served model name behind one or more base URLs."""

    def __init__(self, model: settings.Model, engine: settings.Engine, *, first_delay: float = 0.5) -> None:
        """``first_delay``: seconds, the upper bound of the first wait; it doubles up to LONGEST_DELAY."""
        if not model.base_urls:
            raise ValueError(f"model {model.source!r} has backend 'openai' but no base_urls; name at least one server")
        self.model = model
        self.settings = engine
        self.first_delay = first_delay
        self._key = os.environ.get(model.api_key_env) or "none"
        self._templater: Templater | None = None
        self._turn = itertools.count()
        self._retries_left = FREE_RETRIES
        self._identity = served_identity(model)

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request, as they finish. Raise EngineLost if the servers refuse every request."""
        if self.model.tokenizer and self._templater is None:
            self._templater = Templater(load_tokenizer(Path(self.model.tokenizer)))
        self._retries_left = FREE_RETRIES
        source = iter(requests)
        pending: set[Future[Result]] = set()
        with _event_loop() as loop:
            clients = asyncio.run_coroutine_threadsafe(self._connect(), loop).result()
            try:
                while True:
                    for request in itertools.islice(source, self.settings.concurrency - len(pending)):
                        pending.add(asyncio.run_coroutine_threadsafe(self._answer(request, clients), loop))
                    if not pending:
                        return
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                for future in pending:
                    future.cancel()
                asyncio.run_coroutine_threadsafe(_disconnect(clients), loop).result()

    def close(self) -> None:
        """Nothing but the tokenizer is kept between runs."""
        self._templater = None

    async def _connect(self) -> list[Any]:
        from openai import AsyncOpenAI

        return [AsyncOpenAI(api_key=self._key, base_url=url, max_retries=0, timeout=self.settings.request_timeout)
                for url in self.model.base_urls]

    async def _answer(self, request: Request, clients: Sequence[Any]) -> Result:
        try:
            path, body, tokens = self._body(request.call, request.seed)
        except ValueError as e:
            return Result(row_key=request.row_key, error=str(e))
        turn, attempt = next(self._turn), 0
        while True:
            try:
                text = await self._post(clients[(turn + attempt) % len(clients)], path, body)
                result = read_reply(request, text, (self.model.source, *self.model.served_as), tokens)
            except Unusable as e:
                if attempt >= self.settings.retries or self._retries_left < 1:
                    return self._failed(request, e, attempt + 1)
                self._retries_left -= 1
                jitter = random.uniform(0, min(LONGEST_DELAY, self.first_delay * 2**attempt))
                await asyncio.sleep(max(e.wait, jitter))
                attempt += 1
            except ValueError as e:
                return self._failed(request, e, attempt + 1)
            else:
                self._retries_left = min(FREE_RETRIES, self._retries_left + EARNED_RETRIES)
                return result

    async def _post(self, client: Any, path: str, body: dict[str, Any]) -> str:
        """The reply's text. Raise Unusable (try again), ValueError (this row) or EngineLost (every row)."""
        import openai

        endpoint = client.completions if path == "completions" else client.chat.completions
        try:
            async with asyncio.timeout(self.settings.request_timeout):
                reply = await endpoint.with_raw_response.create(**body)
                return str(reply.text)
        except openai.APIStatusError as e:
            status = e.status_code
            reason = self._mask(f"status {status}: {e.response.text[:EXCERPT]}")
            if status in (401, 403, 404):
                where = self._mask(str(client.base_url))
                raise EngineLost(f"{where} refuses model {self.model.source!r} ({reason}); check base_urls, the served "
                                 f"model name and the key in {self.model.api_key_env}") from None
            if status in (408, 409, 425, 429) or status >= 500:
                raise Unusable(reason, retry_after(e.response.headers.get("retry-after"))) from None
            raise ValueError(reason) from None
        except TimeoutError:
            raise Unusable(f"no complete reply within {self.settings.request_timeout:g} s") from None
        except (openai.OpenAIError, OSError) as e:
            raise Unusable(self._mask(f"{type(e).__name__}: {e}")) from None

    def _body(self, call: Call, seed: int) -> tuple[str, dict[str, Any], list[str]]:
        """Endpoint, request body, and for each answer the names that its first token may have in the reply."""
        body: dict[str, Any] = {"model": self.model.source, **_sampling(call, seed)}
        if self._templater is not None:
            return "completions", *self._token_body(call, body, self._templater)
        names = [a.strip() for a in call.answers]
        contents = [{"role": m["role"], "content": neutralize(m["content"])} for m in call.messages]
        if call.style == "plain":
            body |= {"prompt": "\n\n".join(m["content"] for m in contents)}
            return "completions", body | ({"logprobs": TOP_LOGPROBS} if call.answers else {}), names
        body |= {"messages": contents}
        if call.answers:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        if call.messages[-1]["role"] == "assistant":
            body |= {"extra_body": {"add_generation_prompt": False, "continue_final_message": True}}
        return "chat", body, names

    def _token_body(self, call: Call, body: dict[str, Any], t: Templater) -> tuple[dict[str, Any], list[str]]:
        body |= {"prompt": t.encode_within(call, self.settings.max_model_len)}
        if call.answers:
            names = [f"token_id:{i}" for i in t.answer_tokens(call.answers)]
            return body | {"logprobs": TOP_LOGPROBS, "extra_body": {"return_tokens_as_token_ids": True}}, names
        stops = {"stop": list(t.stops(call))} if t.stops(call) else {}
        return body | stops | {"extra_body": {"stop_token_ids": list(t.stop_token_ids)}}, []

    def _failed(self, request: Request, cause: Exception, attempts: int) -> Result:
        return Result(row_key=request.row_key, error=self._mask(f"after {attempts} attempt(s): {cause}"))

    def _mask(self, text: str) -> str:
        text = text.replace(self._key, "***") if len(self._key) > 4 else text
        return re.sub(r"://[^/@\s]+@", "://***@", text)


def served_identity(model: settings.Model) -> ModelIdentity:
    """A server does not expose its weights: name and revision stand for them, so pin ``revision``."""
    name = f"served:{model.source}@{model.revision or 'unpinned'}"
    if model.tokenizer is None:
        return ModelIdentity(weights=name, tokenizer=name, template=name)
    tokenizer, template = identify_tokenizer(Path(model.tokenizer))
    return ModelIdentity(weights=name, tokenizer=tokenizer, template=template)


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, capped; 0 if it is missing or makes no sense."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else 0.0


def _sampling(call: Call, seed: int) -> dict[str, Any]:
    s = call.sampling
    if s is None:
        return {"max_tokens": 1, "temperature": 0}
    chosen = {"temperature": s.temperature, "top_p": s.top_p, "max_tokens": s.max_tokens, "seed": seed}
    return chosen | ({"stop": list(s.stop)} if s.stop else {})


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="openai-engine", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _disconnect(clients: Iterable[Any]) -> None:
    unfinished = asyncio.all_tasks() - {asyncio.current_task()}
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
    for client in clients:
        await client.close()
