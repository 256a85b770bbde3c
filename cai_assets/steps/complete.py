"""The heart of the system: look calls up by key, run what is missing, keep it, return all in order.

It gives reuse across constitution versions, resume after a crash, and going back to an earlier version for
nothing. A failed row is returned with its reason and never stored, so the next run tries it again. Work that asks for
one row after another goes on as soon as its own row is there: nothing waits for the slowest row of a round.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Generic, Literal, NamedTuple, TypeVar

from cai_assets.engines.keys import Payloads, request_for
from cai_assets.engines.prefixes import beginning
from cai_assets.engines.protocol import NOT_YET, Call, Engine, Request, Result, flows, servers
from cai_assets.steps.progress import Progress
from cai_assets.steps.usage import Usage
from cai_assets.store.answers import no_answer
from cai_assets.store.keys import payload_key
from cai_assets.store.row_store import Index, RowStore, StoredRow, Writer

AT_ONCE = 65_536
"""The most rows that work under way may still ask for: many times what engines have in flight, and what bounds memory
whatever the number of rows."""

Log = Callable[[str], None]
T = TypeVar("T")


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


Work = Generator[tuple[Step, Call], Row, T]
"""Yields a call, is sent its row, and so on; what it returns is its result."""


class Completer:
    """Completes calls for one asset: an engine, the store and a seed. ``usage`` is added up by step name."""

    def __init__(self, engine: Engine, store: RowStore, *, seed: int, log: Log = lambda _: None,
                 usage: dict[str, Usage] | None = None) -> None:
        self.engine, self.store, self.seed, self.log = engine, store, seed, log
        self.usage = usage if usage is not None else {}

    def __call__(self, step: Step, calls: Sequence[Call], *, what: str = "") -> list[Row]:
        """Rows in the order of ``calls``. Equal calls share one key and are run once."""
        return self.flow([_one(step, call) for call in calls], what=what or step.name)

    def each(self, step: Step, calls: Iterable[Call], *, count: int, what: str) -> Iterator[Row]:
        """The same, a little at a time, as ``stream`` does it."""
        return self.stream((_one(step, call) for call in calls), what=what, count=count)

    def flow(self, works: Sequence[Work[T]], *, what: str, asks: int = 1) -> list[T]:
        """What each piece of work returns, in order. ``asks``: the most rows that one of them asks for."""
        return list(self.stream(works, what=what, count=len(works), asks=asks))

    def stream(self, works: Iterable[Work[T]], *, what: str, count: int, asks: int = 1) -> Iterator[T]:
        """As ``flow``, a little at a time: a piece is taken when there is room for it, and given back when it and those
        before it have ended. ``count``: at most how many there are."""
        return _Flow(self, iter(works), Progress(what, asks * count, self.log, also=self._servers), asks).run()

    def _servers(self) -> str:
        return "; ".join(f"{address}: {how}" for address, how in servers(self.engine).items())

    def unasked(self, step: Step, key: str, call: Call) -> Row | None:
        """What a call comes to that is neither stored nor to be asked; None: ask the engine."""
        return None


def _one(step: Step, call: Call) -> Work[Row]:
    return (yield step, call)


class _Asked(NamedTuple):
    """A call that is not stored, and the pieces of work that wait for its row."""

    key: str
    step: Step
    call: Call
    by: list[int]


class _Flow(Generic[T]):
    """Pieces of work on their way; ``run`` takes all of them to their ends."""

    def __init__(self, complete: Completer, works: Iterator[Work[T]], progress: Progress, asks: int) -> None:
        self.complete, self.works, self.progress, self.asks = complete, works, progress, asks
        self.room = max(1, AT_ONCE // max(1, asks))
        self.begun = self.given = 0  # pieces taken, and results given back
        self.going: dict[int, Work[T]] = {}
        self.left: dict[int, int] = {}  # rows that each of these may still ask for
        self.results: dict[int, T] = {}
        self.new: list[tuple[int, Step, Call]] = []  # asked for, and not looked up yet
        self.ready: deque[_Asked] = deque()  # not stored, and not with the engine yet
        self.waiting: dict[str, _Asked] = {}  # ready, or with the engine
        self.steps: dict[Step, _StepRows] = {}
        self.shards = ExitStack()
        self.heard = 0.0  # when the last result came, or the engine was called

    def run(self) -> Iterator[T]:
        engine = self.complete.engine
        with self.shards:
            while self._begin():
                yield from self._ended()
                while self.ready:
                    self.heard = time.monotonic()
                    for result in engine.run(self._flowing() if flows(engine) else [*self._taken()]):
                        self._take(result)
                        yield from self._ended()
                    for key in self.waiting.keys() - {asked.key for asked in self.ready}:
                        self._answer(Row(key, "failed", None, error="the engine returned no result for this row"))
                    self._look_up()
                    self._begin()
                    yield from self._ended()
                    self.complete.usage[next(iter(self.steps)).name].servers |= servers(engine)

    def _begin(self) -> bool:
        """Take work while half of the room or more is free; false if there was none to take."""
        begun = self.begun
        while (free := self.room - self.begun + self.given) >= self.room / 2 and (new := [*islice(self.works, free)]):
            for rows in self.steps.values():
                rows.settle()
            for i, work in enumerate(new, self.begun):
                self.going[i], self.left[i] = work, self.asks
                self._go_on(i, None)
            self.begun += len(new)
            self._look_up()
        return self.begun > begun

    def _ended(self) -> Iterator[T]:
        """The results that are next."""
        while self.given in self.results:
            yield self.results.pop(self.given)
            self.given += 1

    def _taken(self) -> Iterator[Request]:
        """What is ready now."""
        while self.ready:
            asked = self.ready.popleft()
            yield request_for(asked.key, asked.call)

    def _flowing(self) -> Iterator[Request]:
        """What is ready, and what gets ready while the engine works."""
        while self.waiting:
            if not self.ready:
                yield NOT_YET
            yield from self._taken()
            self._look_up()
            self._begin()

    def _take(self, result: Result) -> None:
        asked, now = self.waiting[result.row_key], time.monotonic()
        rows = self._of(asked.step)
        rows.usage.seconds += now - self.heard
        self.heard = now
        self.progress.add(1, result.completion_tokens)
        self._answer(rows.keep(result, asked.call))

    def _answer(self, row: Row) -> None:
        """Give the row to all who wait for it: to the second and later ones it is a reuse, so tokens count once."""
        asked = self.waiting.pop(row.row_key)
        self._of(asked.step).done[row.row_key] = row
        for n, i in enumerate(asked.by):
            self._give(i, asked.step, _again(row) if n else row)

    def _give(self, i: int, step: Step, row: Row) -> None:
        self._of(step).usage.count(row)
        self._go_on(i, row)

    def _go_on(self, i: int, row: Row | None) -> None:
        try:
            step, call = next(self.going[i]) if row is None else self.going[i].send(row)
        except StopIteration as end:
            self.results[i] = end.value
            del self.going[i]
            self.progress.less(self.left.pop(i))
        else:
            self.left[i] -= 1
            self.new.append((i, step, call))

    def _look_up(self) -> None:
        """Answer from the store and from what was asked before, as far as that goes; the rest is ready, in order."""
        while self.new:
            new, self.new = self.new, []
            keyed = [(i, step, call, self._of(step).key(call)) for i, step, call in new]
            found = {step: self._of(step).known([key for _, of, _, key in keyed if of == step])
                     for step in dict.fromkeys(step for _, step, _, _ in keyed)}
            for i, step, call, key in keyed:
                row = found[step].get(key)
                if row is None and key not in self.waiting:
                    row = self.complete.unasked(step, key, call)
                if row is None and key not in self.waiting:
                    self.waiting[key] = _Asked(key, step, call, [i])
                    self.ready.append(self.waiting[key])
                    continue
                self.progress.less(1)
                if row is None:
                    self.waiting[key].by.append(i)
                else:
                    self._give(i, step, row)
        self.ready = deque(sorted(self.ready, key=lambda asked: beginning(asked.call)))

    def _of(self, step: Step) -> _StepRows:
        if step not in self.steps:
            self.steps[step] = _StepRows(self.complete, step, self.shards)
        return self.steps[step]


class _StepRows:
    """The rows of one step: those stored, and those that a flow adds. ``done``: what the engine was asked for, as long
    as it may not be stored."""

    def __init__(self, complete: Completer, step: Step, shards: ExitStack) -> None:
        self.step, self.store = step, complete.store
        self.usage = complete.usage.setdefault(step.name, Usage())
        self.done: dict[str, Row] = {}
        self._thoughts = complete.engine.identity.keeps_thoughts
        self.payload = Payloads(step.name, step.version, complete.engine.identity, complete.seed)
        self._index: Index | None = None
        self._shards = shards
        self._writer: Writer | None = None

    def key(self, call: Call) -> str:
        return payload_key(self.payload(call))

    def known(self, keys: Sequence[str]) -> dict[str, Row]:
        """What is stored or done among ``keys``."""
        self._index = self._index or self.store.index(self.step.name)
        stored = self._index.lookup(keys, thoughts=self._thoughts)
        done = {key: _again(self.done[key]) for key in keys if key in self.done}
        return done | {key: _reused(row) for key, row in stored.items()}

    def settle(self) -> None:
        """From now on, what was generated is looked up in the store; failures are not there."""
        generated = any(row.status == "generated" for row in self.done.values())
        if generated and self._writer and self._index:
            self._writer.flush()
            self._index.update()
            self.done = {key: row for key, row in self.done.items() if row.status == "failed"}

    def keep(self, result: Result, call: Call) -> Row:
        """Store an answer; a failure is told, and not stored."""
        if error := result.error or no_answer(result.logprobs):
            return Row(result.row_key, "failed", None, error=error, refused=result.refused)
        self._writer = self._writer or self._shards.enter_context(self.store.writer(self.step.name))
        self._writer.add(StoredRow(result.row_key, self.payload(call), result.text, result.finish,
                                   list(result.logprobs), result.prompt_tokens, result.completion_tokens,
                                   result.thought, result.thought_state))
        return Row(result.row_key, "generated", result.text, result.finish, result.logprobs, result.prompt_tokens,
                   result.completion_tokens, adapted=result.adapted, thought=result.thought,
                   thought_state=result.thought_state)


def _again(row: Row) -> Row:
    return row._replace(status="reused") if row.status == "generated" else row


def _reused(row: StoredRow) -> Row:
    return Row(row.row_key, "reused", row.text, row.finish, tuple(row.logprobs), row.prompt_tokens,
               row.completion_tokens, thought=row.thought, thought_state=row.thought_state)
