"""The heart of the system: look calls up by key, run what is missing, keep it, return all in order.

It gives reuse across constitution versions, resume after a crash, and going back to an earlier version for
nothing. A failed row is returned with its reason and never stored, so the next run tries it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cai_assets.engines.keys import Payloads, request_for
from cai_assets.engines.protocol import Call, Engine, Result
from cai_assets.steps.progress import Progress
from cai_assets.store.answers import no_answer
from cai_assets.store.keys import payload_key
from cai_assets.store.row_store import RowStore, StoredRow, Writer

Log = Callable[[str], None]


class Step(NamedTuple):
    """A kind of model call. Bump ``version`` by hand when its meaning changes in a way its messages do not show."""

    name: str
    version: int = 1


class Row(NamedTuple):
    """One call's outcome. ``text`` is None if it failed, and then ``error`` says why; ``refused``, ``adapted``: as in
    ``Result``."""

    row_key: str
    status: Literal["reused", "generated", "failed"]
    text: str | None
    finish: str = ""
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    refused: bool = False
    adapted: tuple[str, ...] = ()


@dataclass
class Usage:
    """What calls cost. Tokens and seconds count generated rows only: reused ones cost nothing. ``refused``: of those
    that failed; ``errors``, ``adapted``: reasons, with the number of calls of each."""

    reused: int = 0
    generated: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    adapted: dict[str, int] = field(default_factory=dict)

    def count(self, rows: Sequence[Row], seconds: float) -> None:
        self.seconds += seconds
        for row in rows:
            setattr(self, row.status, getattr(self, row.status) + 1)
            self.refused += row.refused
            if row.status == "generated":
                self.prompt_tokens += row.prompt_tokens
                self.completion_tokens += row.completion_tokens
            if row.error:
                _add(self.errors, {row.error[:160]: 1})
            _add(self.adapted, dict.fromkeys(row.adapted, 1))


class Completer:
    """Completes calls for one asset: an engine, the store and a seed. ``usage`` is added up by step name."""

    def __init__(self, engine: Engine, store: RowStore, *, seed: int, log: Log = lambda _: None,
                 usage: dict[str, Usage] | None = None) -> None:
        self.engine, self.store, self.seed, self.log = engine, store, seed, log
        self.usage = usage if usage is not None else {}

    def __call__(self, step: Step, calls: Sequence[Call], *, what: str = "") -> list[Row]:
        """Rows in the order of ``calls``. Equal calls share one key and are run once."""
        write = Payloads(step.name, step.version, self.engine.identity, self.seed)
        keys = [payload_key(write(call)) for call in calls]
        stored = self.store.lookup(step.name, keys, payload=False)
        missing = {key: call for key, call in zip(keys, calls, strict=True) if key not in stored}
        start = time.monotonic()
        fresh = self._run(step, missing, what or step.name) if missing else {}
        rows, seen = [], set[str]()
        for key in keys:
            # The second of two equal calls is a reuse of the first: tokens are counted once.
            again = key in seen and fresh.get(key, _FAILED).status == "generated"
            row = fresh.get(key) or _reused(stored[key])
            rows.append(row._replace(status="reused") if again else row)
            seen.add(key)
        self.usage.setdefault(step.name, Usage()).count(rows, time.monotonic() - start if missing else 0.0)
        return rows

    def _run(self, step: Step, missing: Mapping[str, Call], what: str) -> dict[str, Row]:
        progress = Progress(what, len(missing), self.log)
        write = Payloads(step.name, step.version, self.engine.identity, self.seed)
        fresh: dict[str, Row] = {}
        with self.store.writer(step.name) as writer:
            for result in self.engine.run([request_for(key, call) for key, call in missing.items()]):
                fresh[result.row_key] = _keep(result, write(missing[result.row_key]), writer)
                progress.add(1, result.completion_tokens)
        for key in missing.keys() - fresh.keys():
            fresh[key] = Row(key, "failed", None, error="the engine returned no result for this row")
        return fresh


_FAILED = Row("", "failed", None)


def _keep(result: Result, payload: str, writer: Writer) -> Row:
    if error := result.error or no_answer(result.logprobs):
        return Row(result.row_key, "failed", None, error=error, refused=result.refused)
    writer.add(StoredRow(result.row_key, payload, result.text, result.finish,
                         list(result.logprobs), result.prompt_tokens, result.completion_tokens))
    return Row(result.row_key, "generated", result.text, result.finish, result.logprobs,
               result.prompt_tokens, result.completion_tokens, adapted=result.adapted)


def _reused(row: StoredRow) -> Row:
    return Row(row.row_key, "reused", row.text, row.finish, tuple(row.logprobs),
               row.prompt_tokens, row.completion_tokens)


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of several steps' usage."""
    summed = Usage()
    for usage in usages:
        for name in ("reused", "generated", "failed", "refused", "prompt_tokens", "completion_tokens", "seconds"):
            setattr(summed, name, getattr(summed, name) + getattr(usage, name))
        _add(summed.errors, usage.errors)
        _add(summed.adapted, usage.adapted)
    return summed


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for reason, n in more.items():
        counts[reason] = counts.get(reason, 0) + n
