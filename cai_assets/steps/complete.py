"""The heart of the system: look calls up by key, run what is missing, keep it, return all in order.

It gives reuse across constitution versions, resume after a crash, and going back to an earlier version for
nothing. A failed row is returned with its reason and never stored, so the next run tries it again. Work that asks for
one row after another flows (``flow.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from cai_assets.engines.protocol import Call, Engine, servers
from cai_assets.steps.flow import Addressed, Flow, Work
from cai_assets.steps.progress import Progress
from cai_assets.steps.rows import Row, Step
from cai_assets.steps.usage import Usage
from cai_assets.store.row_store import RowStore

__all__ = ["Addressed", "Completer", "Log", "Row", "Step", "Work"]

Log = Callable[[str], None]
T = TypeVar("T")


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

    def stream(self, works: Iterable[Work[T] | None], *, what: str, count: int, asks: int = 1,
               others: Sequence[Completer] = ()) -> Iterator[T]:
        """As ``flow``, a little at a time: a piece is taken when there is room for it, and given back when it and those
        before it have ended. ``count``: at most how many there are; None in ``works``: those that follow cannot begin
        before another has ended. ``others``: whom they ask too, in the order in which their engines are to run."""
        def said() -> str:
            every = {id(one.engine): servers(one.engine) for one in (*others, self)}
            return "; ".join(f"{address}: {how}" for found in every.values() for address, how in found.items())

        return Flow(self, works, Progress(what, asks * count, self.log, also=said), asks, others).run()

    def is_as(self, other: Completer) -> bool:
        """Whether equal calls of both have one key, and one row."""
        return (self.engine.identity, self.seed, self.store) == (other.engine.identity, other.seed, other.store)

    def unasked(self, step: Step, key: str, call: Call) -> Row | None:
        """What a call comes to that is neither stored nor to be asked; None: ask the engine."""
        return None


def _one(step: Step, call: Call) -> Work[Row]:
    return (yield step, call)
