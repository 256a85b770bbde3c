"""Work that other work leads to: what one model answers, another is asked about as soon as the answer is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from cai_assets.steps.complete import Addressed, Completer, Row, Work

T = TypeVar("T")


def together(asked: Sequence[Addressed], told: Callable[[list[Row]], T]) -> Iterator[Work[T | None]]:
    """Each call for itself, so that none waits for another. ``told`` is given all rows, in order, when the last one is
    there; what it returns is then that one's result, and None the others'."""
    rows = dict[int, Row]()

    def one(place: int, ask: Addressed) -> Work[T | None]:
        rows[place] = yield ask
        return told([rows[i] for i in range(len(asked))]) if len(rows) == len(asked) else None

    return (one(place, ask) for place, ask in enumerate(asked))


def follow(first: Sequence[Work[T | None]], then: Callable[[T], Iterable[Work[None]]], *, complete: Completer,
           others: Sequence[Completer], what: str, count: int) -> None:
    """Take work to its end, and what ``then`` makes of each result. ``complete``, and ``others``, whom it asks too, in
    the order in which their engines are to run; ``count``: at most how many rows follow."""
    works = _Following(first, then)
    for _ in complete.stream(works, what=what, count=len(first) + count, others=others):
        pass


class _Following(Generic[T]):
    """Pieces of work, and those that ``then`` makes of each result; None while there may be more of these."""

    def __init__(self, first: Sequence[Work[T | None]], then: Callable[[T], Iterable[Work[None]]]) -> None:
        self.first, self.then = first, then
        self.ready: deque[Work[None]] = deque()
        self.open = len(first)

    def __iter__(self) -> Iterator[Work[None] | None]:
        yield from (self._and_then(work) for work in self.first)
        while self.open or self.ready:
            yield self.ready.popleft() if self.ready else None

    def _and_then(self, work: Work[T | None]) -> Work[None]:
        result = yield from work
        if result is not None:
            self.ready.extend(self.then(result))
        self.open -= 1
