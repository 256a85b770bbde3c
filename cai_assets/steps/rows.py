"""The rows of one step: what is stored is looked up by key, and what is generated is stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, NamedTuple

from cai_assets.engines.keys import Payloads
from cai_assets.engines.protocol import Call, Result
from cai_assets.store.answers import no_answer
from cai_assets.store.keys import payload_key
from cai_assets.store.row_store import Index, StoredRow, Writer

if TYPE_CHECKING:
    from cai_assets.steps.complete import Completer


class Step(NamedTuple):
    """A kind of model call. Bump ``version`` by hand when its meaning changes in a way its messages do not show."""

    name: str
    version: int = 1


class Row(NamedTuple):
    """One call's outcome. ``text`` is None if it failed, and then ``error`` says why; ``refused``, ``adapted``: as in
    ``Result``, as are ``thought`` and ``thought_state``."""

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
    thought: str = ""
    thought_state: str = ""


class StepRows:
    """The rows of one step and model: those stored, and those that a flow adds. ``done``: what the engine was asked
    for, as long as it may not be stored."""

    def __init__(self, complete: Completer, step: Step, shards: ExitStack, index: Index) -> None:
        self.step, self.store = step, complete.store
        self.done: dict[str, Row] = {}
        self._thoughts = complete.engine.identity.keeps_thoughts
        self.payload = Payloads(step.name, step.version, complete.engine.identity, complete.seed)
        self.index, self._shards = index, shards
        self._writer: Writer | None = None
        self._new = 0  # rows that were generated, and are not looked up in the store yet

    def key(self, call: Call) -> str:
        return payload_key(self.payload(call))

    def known(self, keys: Sequence[str]) -> dict[str, Row]:
        """What is stored or done among ``keys``."""
        stored = self.index.lookup(keys, thoughts=self._thoughts)
        done = {key: again(self.done[key]) for key in keys if key in self.done}
        return done | {key: _reused(row) for key, row in stored.items()}

    def settle(self, many: int) -> None:
        """Where so many were generated, look them up in the store from now on; failures are not there."""
        if self._writer and self._new >= many:
            self._writer.flush()
            self.index.update()
            self.done = {key: row for key, row in self.done.items() if row.status == "failed"}
            self._new = 0

    def keep(self, result: Result, call: Call) -> Row:
        """Store an answer; a failure is told, and not stored."""
        if error := result.error or no_answer(result.logprobs):
            return Row(result.row_key, "failed", None, error=error, refused=result.refused)
        self._writer = self._writer or self._shards.enter_context(self.store.writer(self.step.name))
        self._writer.add(StoredRow(result.row_key, self.payload(call), result.text, result.finish,
                                   list(result.logprobs), result.prompt_tokens, result.completion_tokens,
                                   result.thought, result.thought_state))
        self._new += 1
        return Row(result.row_key, "generated", result.text, result.finish, result.logprobs, result.prompt_tokens,
                   result.completion_tokens, adapted=result.adapted, thought=result.thought,
                   thought_state=result.thought_state)


def again(row: Row) -> Row:
    """The row, for whoever asks for it after the first."""
    return row._replace(status="reused") if row.status == "generated" else row


def _reused(row: StoredRow) -> Row:
    return Row(row.row_key, "reused", row.text, row.finish, tuple(row.logprobs), row.prompt_tokens,
               row.completion_tokens, thought=row.thought, thought_state=row.thought_state)
