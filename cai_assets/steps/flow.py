"""Pieces of work on their way: each asks for one row after another, and goes on as soon as its own row is there.

Nothing waits for the slowest row of a round, and what one model has answered another judges meanwhile. One engine runs
at a time, in the order in which they are given, but for those whose work is done elsewhere: these run beside it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice, takewhile
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from cai_assets.engines.beside import FORGOTTEN, Beside
from cai_assets.engines.keys import request_for
from cai_assets.engines.prefixes import beginning
from cai_assets.engines.protocol import NOT_YET, Call, Engine, Request, Result, aside, flows, servers
from cai_assets.steps.progress import Progress
from cai_assets.steps.rows import Row, Step, StepRows, again
from cai_assets.steps.usage import Usage
from cai_assets.store.row_store import Index

if TYPE_CHECKING:
    from cai_assets.steps.complete import Completer

AT_ONCE = 65_536
"""The most rows that work under way may still ask for: many times what engines have in flight, and what bounds memory
whatever the number of rows."""

T = TypeVar("T")


class Addressed(NamedTuple):
    """A call of another model than the one whose flow it is."""

    step: Step
    call: Call
    complete: Completer


Work = Generator[tuple[Step, Call] | Addressed, Row, T]
"""Yields a call, is sent its row, and so on; what it returns is its result."""


class _Asker(NamedTuple):
    """A completer's calls of one step."""

    complete: Completer
    step: Step
    rows: StepRows
    usage: Usage
    lane: _Lane


@dataclass(eq=False)
class _Asked:
    """A call that is not stored, and the pieces of work that wait for its row, each with how it asks."""

    key: str
    call: Call
    by: list[tuple[int, _Asker]]

    @property
    def first(self) -> _Asker:
        return self.by[0][1]


@dataclass(eq=False)
class _Lane:
    """An engine, what is ready for it, and how many rows it has not answered, those that are ready among them. ``ran``:
    whether it was asked."""

    engine: Engine
    is_aside: bool
    ready: deque[_Asked] = field(default_factory=deque)
    open: int = 0
    ran: bool = False
    beside: Beside | None = None


class Flow(Generic[T]):
    """``run`` takes all pieces of work to their ends. ``complete``, and ``others``, whom they ask too."""

    def __init__(self, complete: Completer, works: Iterable[Work[T] | None], progress: Progress, asks: int,
                 others: Iterable[Completer] = ()) -> None:
        self.complete, self.works, self.progress, self.asks = complete, iter(works), progress, asks
        self.lanes = _lanes([*(other.engine for other in others), complete.engine])
        self.apart = [lane for lane in self.lanes.values() if lane.is_aside]
        self.room = max(1, AT_ONCE // max(1, asks))
        self.begun = self.given = 0  # pieces taken, and results given back
        self.going: dict[int, Work[T]] = {}
        self.left: dict[int, int] = {}  # rows that each of these may still ask for
        self.results: dict[int, T] = {}
        self.new: list[tuple[int, _Asker, Call]] = []  # asked for, and not looked up yet
        self.waiting: dict[str, _Asked] = {}  # ready, or with an engine
        self.askers: dict[tuple[int, Step], _Asker] = {}
        self.shards = ExitStack()
        self.found: SimpleQueue[Result | Exception] = SimpleQueue()  # of the engines that run beside
        self.heard = 0.0  # when the last result came, or an engine was called

    def run(self) -> Iterator[T]:
        with self.shards:
            try:
                while self._begin():
                    yield from self._ended()
                    yield from self._to_the_end()
                    self._told()
            finally:
                self._stop()

    def _to_the_end(self) -> Iterator[T]:
        """Take what has begun, and what begins meanwhile, to its end."""
        while self.waiting:
            self.heard = time.monotonic()
            for result in self._results():
                self._take(result)
                if self.apart:
                    self._go_on_with_all()
                yield from self._ended()
            self._go_on_with_all()
            yield from self._ended()

    def _stop(self) -> None:
        """Let nothing go on beside; where the work was cut off, keep what was answered there."""
        for lane in self.apart:
            if lane.beside is not None:
                lane.beside.stop()
        while not self.found.empty():
            found = self.found.get()
            if isinstance(found, Result):
                asked = self.waiting[found.row_key]
                asked.first.rows.keep(found, asked.call)

    def _go_on_with_all(self) -> None:
        """Look up what was asked for, and begin what can begin."""
        self._look_up()
        self._begin()

    def _results(self) -> Iterator[Result]:
        """Of the next engine that has something to do, and of those beside it meanwhile; without one, of these."""
        lane = next((lane for lane in self.lanes.values() if lane.ready and not lane.is_aside), None)
        if lane is None:
            yield from self._beside(wait=True)
            return
        for result in lane.engine.run(self._flowing(lane) if flows(lane.engine) else [*self._taken(lane)]):
            yield result
            yield from self._beside()
        ready = {asked.key for asked in lane.ready}
        for key in [key for key, asked in self.waiting.items() if asked.first.lane is lane and key not in ready]:
            self._answer(Row(key, "failed", None, error=FORGOTTEN))

    def _beside(self, *, wait: bool = False) -> Iterator[Result]:
        """What the engines beside have answered; ``wait``: one result at least."""
        try:
            while True:
                found = self.found.get(wait)
                if isinstance(found, Exception):
                    raise found
                yield found
                wait = False
        except Empty:
            return

    def _begin(self) -> bool:
        """Take work while half of the room or more is free; false if there was none to take."""
        begun = self.begun
        while (free := self.room - self.begun + self.given) >= self.room / 2 and (new := self._next(free)):
            for rows in {asker.rows for asker in self.askers.values()}:
                rows.settle(AT_ONCE // 2)
            for i, work in enumerate(new, self.begun):
                self.going[i], self.left[i] = work, self.asks
                self._go_on(i, None)
            self.begun += len(new)
            self._look_up()
        return self.begun > begun

    def _next(self, room: int) -> list[Work[T]]:
        """Work that can begin, so far as there is room for it."""
        return [work for work in takewhile(lambda work: work is not None, islice(self.works, room)) if work]

    def _ended(self) -> Iterator[T]:
        """The results that are next."""
        while self.given in self.results:
            yield self.results.pop(self.given)
            self.given += 1

    def _taken(self, lane: _Lane) -> Iterator[Request]:
        """What is ready now."""
        lane.ran = True
        while lane.ready:
            asked = lane.ready.popleft()
            yield request_for(asked.key, asked.call)

    def _flowing(self, lane: _Lane) -> Iterator[Request]:
        """What is ready, and what gets ready while the engine works."""
        while lane.open:
            if not lane.ready:
                yield NOT_YET
            yield from self._taken(lane)
            self._go_on_with_all()

    def _send(self) -> None:
        """What is ready for engines that run beside, to these."""
        for lane in (lane for lane in self.apart if lane.ready):
            if lane.beside is None:
                lane.beside = Beside(lane.engine, self.found.put)
            lane.beside.send(self._taken(lane))

    def _told(self) -> None:
        """Keep how fast servers were, with the first step that asked an engine."""
        first = {id(asker.lane): asker for asker in reversed(self.askers.values())}
        for lane in (lane for lane in self.lanes.values() if lane.ran):
            first[id(lane)].usage.servers |= servers(lane.engine)

    def _take(self, result: Result) -> None:
        asked, now = self.waiting[result.row_key], time.monotonic()
        asked.first.usage.seconds += now - self.heard
        self.heard = now
        self.progress.add(1, result.completion_tokens)
        self._answer(asked.first.rows.keep(result, asked.call))

    def _answer(self, row: Row) -> None:
        """Give the row to all who wait for it: to the second and later ones it is a reuse, so tokens count once."""
        asked = self.waiting.pop(row.row_key)
        asked.first.lane.open -= 1
        asked.first.rows.done[row.row_key] = row
        for n, (i, asker) in enumerate(asked.by):
            self._give(i, asker, again(row) if n else row)

    def _give(self, i: int, asker: _Asker, row: Row) -> None:
        asker.usage.count(row)
        self._go_on(i, row)

    def _go_on(self, i: int, row: Row | None) -> None:
        try:
            asked = next(self.going[i]) if row is None else self.going[i].send(row)
        except StopIteration as end:
            self.results[i] = end.value
            del self.going[i]
            self.progress.less(self.left.pop(i))
        else:
            self.left[i] -= 1
            of = asked.complete if isinstance(asked, Addressed) else self.complete
            self.new.append((i, self._asker(of, asked[0]), asked[1]))

    def _look_up(self) -> None:
        """Answer from the store and from what was asked before, as far as that goes; the rest is ready, in order, or
        sent to the engines beside."""
        lanes = set[_Lane]()
        while self.new:
            new, self.new = self.new, []
            keyed = [(i, asker, call, asker.rows.key(call)) for i, asker, call in new]
            by_rows: dict[StepRows, list[str]] = {}
            for _, asker, _, key in keyed:
                by_rows.setdefault(asker.rows, []).append(key)
            found = {key: row for rows, keys in by_rows.items() for key, row in rows.known(keys).items()}
            for i, asker, call, key in keyed:
                row, waiting = found.get(key), self.waiting.get(key)
                if row is None and waiting is None:
                    row = asker.complete.unasked(asker.step, key, call)
                if row is None and waiting is None:
                    asked = self.waiting[key] = _Asked(key, call, [(i, asker)])
                    asker.lane.ready.append(asked)
                    asker.lane.open += 1
                    lanes.add(asker.lane)
                    continue
                self.progress.less(1)
                if row is not None:
                    self._give(i, asker, row)
                elif waiting is not None:
                    waiting.by.append((i, asker))
        for lane in lanes:
            lane.ready = deque(sorted(lane.ready, key=lambda asked: beginning(asked.call)))
        self._send()

    def _asker(self, complete: Completer, step: Step) -> _Asker:
        if (id(complete), step) not in self.askers:
            alike = (a for a in self.askers.values() if a.step == step and a.complete.is_as(complete))
            rows = next((asker.rows for asker in alike), None) or StepRows(
                complete, step, self.shards, self._index(complete, step))
            self.askers[id(complete), step] = _Asker(
                complete, step, rows, complete.usage.setdefault(step.name, Usage()), self.lanes[id(complete.engine)])
        return self.askers[id(complete), step]

    def _index(self, complete: Completer, step: Step) -> Index:
        """Of a step's rows: one for all models."""
        same = (asker.rows.index for asker in self.askers.values()
                if asker.step.name == step.name and asker.complete.store is complete.store)
        return next(same, None) or complete.store.index(step.name)


def _lanes(engines: Iterable[Engine]) -> dict[int, _Lane]:
    """One for each engine. Of two that are made of one, neither runs beside others."""
    each = {id(engine): engine for engine in engines}
    inside = [id(_innermost(engine)) for engine in each.values()]
    return {key: _Lane(engine, len(each) > 1 and aside(engine) and inside.count(id(_innermost(engine))) == 1)
            for key, engine in each.items()}


def _innermost(engine: Engine) -> Engine:
    inner = getattr(engine, "engine", None)
    return engine if inner is None else _innermost(inner)
