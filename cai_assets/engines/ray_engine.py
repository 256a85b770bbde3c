"""One model on many machines: actors of a Ray cluster, each with an engine of its own.

Ray places the actors, brings dead ones back and carries the calls. What a dead worker had is put back in the queue
here, because Ray's own retries go to the same actor, and wait for a node that may never come. A batch that was running
when its worker died is halved, so that a row which kills its worker is found; the second worker that dies on it alone
makes it a failed row, and its neighbors succeed. An engine that is lost ends its worker, so that Ray starts another.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cai_assets import settings
from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import NOT_YET, Engine, ModelIdentity, Request, Result

BATCH = 64  # rows
WAITING = 2  # batches at a worker: the next one is there when one is done
DEATHS = 2  # of workers on the same row
CONNECT_SECONDS = 10.0
TICK = 1.0  # seconds between looks at what has changed
Batch = list[Request]
log = logging.getLogger(__name__)


class Worker:
    """What runs in an actor."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._engine = make()

    def node(self) -> str:
        """Answered as soon as the actor is up."""
        return os.uname().nodename

    def run(self, batch: Batch) -> list[Result]:
        return [*self._engine.run(batch)]


@dataclass(eq=False)
class _Replica:
    """An actor as this process sees it. ``batches``: with it, the one that it is running first; ``again``: when it is
    asked once more whether it is up; ``deaths``, ``rows``, ``tokens``: so far; ``first``: when it was first up."""

    actor: Any
    up: bool = False
    batches: deque[Batch] = field(default_factory=deque)
    again: float = 0.0
    node: str = ""
    deaths: int = 0
    rows: int = 0
    tokens: int = 0
    first: float = 0.0

    @property
    def said(self) -> str:
        """How it does: '212 rows, 340 tokens/s, 128 rows with it; deaths: 1'."""
        parts = [f"{self.rows} rows"]
        if self.rows:
            parts += [f"{self.tokens / max(time.monotonic() - self.first, TICK):.0f} tokens/s"]
        parts += [f"{sum(map(len, self.batches))} rows with it"] if self.batches else []
        parts += [] if self.up else ["not up"]
        return ", ".join(parts) + (f"; deaths: {self.deaths}" if self.deaths else "")


class RayEngine:
    """``engine.replicas`` actors. ``make``: the engine that each has."""

    flows = True

    def __init__(self, make: Callable[[], Engine], engine: settings.Engine) -> None:
        self._make, self.settings = make, engine
        self._identity = make().identity
        self._replicas: list[_Replica] = []

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def servers(self) -> dict[str, str]:
        """How each worker does, by its number and node."""
        return {f"worker {i} of {len(self._replicas)}" + (f" ({r.node})" if r.node else ""): r.said
                for i, r in enumerate(self._replicas, start=1)}

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result for each request. Raise EngineLost if no worker can serve any."""
        yield from _Run(self._started(), iter(requests), self.settings.patience).results()

    def close(self) -> None:
        """End the actors, which gives their memory back."""
        if not self._replicas:
            return
        import ray

        for replica in self._replicas:
            with suppress(Exception):
                ray.kill(replica.actor)
        self._replicas = []

    def _started(self) -> list[_Replica]:
        ray = connected(self.settings)
        if not self._replicas:
            # On a cluster without GPUs an actor asks for none.
            gpus = self.settings.tensor_parallel_size if ray.cluster_resources().get("GPU") else 0
            actor = ray.remote(Worker).options(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=0,
                                               scheduling_strategy="SPREAD")
            self._replicas = [_Replica(actor.remote(self._make)) for _ in range(self.settings.replicas or 1)]
        return self._replicas


def connected(engine: settings.Engine) -> Any:
    """The package ray, connected to the cluster that is set. Raise EngineLost if it is missing or nobody answers."""
    try:
        import ray
    except ImportError:
        raise EngineLost("engine.replicas needs the package ray, which is not installed: install cai-assets[ray]"
                         ) from None
    if not ray.is_initialized():
        address = None if engine.ray_address == "local" else engine.ray_address
        try:
            _refuse_if_nobody_listens(engine.ray_address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR,
                     include_dashboard=False if address is None else None)
        except (ConnectionError, OSError, RuntimeError, ValueError) as e:
            raise EngineLost(f"engine.ray_address: no Ray cluster at {engine.ray_address!r} "
                             f"({' '.join(str(e).split())[:200]}); start one with 'ray start --head', or set 'local'"
                             ) from None
    return ray


def _refuse_if_nobody_listens(address: str) -> None:
    """Raise OSError or ValueError for an address at which there is nothing: Ray itself would wait for minutes."""
    if address in {"auto", "local"}:
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("not HOST:PORT")
    with socket.create_connection((place.hostname, place.port), CONNECT_SECONDS):
        pass


class _Run:
    """One run over the replicas."""

    def __init__(self, replicas: list[_Replica], source: Iterator[Request], patience: float) -> None:
        import ray

        self.ray, self.replicas, self.source, self.patience = ray, replicas, source, patience
        self.again: deque[Batch] = deque()
        self.deaths: Counter[str] = Counter()  # of workers that had one row alone, by its key
        self.pending: dict[Any, tuple[_Replica, Batch | None]] = {}  # by reference; None: whether the actor is up
        self.heard = time.monotonic()
        self.answered = self.lost = 0  # batches, and engines
        for replica in replicas:
            replica.up, replica.again = False, 0.0
            replica.batches.clear()

    def results(self) -> Iterator[Result]:
        while self._send() or self.again or any(r.batches for r in self.replicas):
            for reference in self._done():
                if reference in self.pending:  # else its worker has died meanwhile
                    yield from self._came(reference)
            if any(r.up for r in self.replicas):
                self.heard = time.monotonic()
            elif time.monotonic() - self.heard > self.patience:
                raise EngineLost(f"no worker of the Ray cluster was up for {self.patience:g} s (engine.patience): it "
                                 "has no room for any of engine.replicas, or cannot be reached")

    def _done(self) -> list[Any]:
        if not self.pending:  # all workers have died, and are asked again in a moment
            time.sleep(TICK)
            return []
        found: list[Any] = self.ray.wait([*self.pending], timeout=TICK)[0]
        return found

    def _send(self) -> bool:
        """Give every worker that is up what it has room for, and ask the others. Whether there may be more to send."""
        for replica in self.replicas:
            if not replica.up and replica.again <= time.monotonic():
                replica.again = math.inf
                self.pending[replica.actor.node.remote()] = replica, None
        more = True
        while more and (free := [r for r in self.replicas if r.up and len(r.batches) < WAITING]):
            batch, more = (self.again.popleft(), True) if self.again else self._next()
            if not batch:
                return more
            replica = min(free, key=lambda r: len(r.batches))
            replica.batches.append(batch)
            self.pending[replica.actor.run.remote(batch)] = replica, batch
        return more

    def _next(self) -> tuple[Batch, bool]:
        """What is ready, and whether there may be more."""
        batch: Batch = []
        for request in self.source:
            if request is NOT_YET:
                return batch, True
            batch.append(request)
            if len(batch) == BATCH:
                return batch, True
        return batch, False

    def _came(self, reference: Any) -> Iterator[Result]:
        replica, batch = self.pending.pop(reference)
        try:
            results = self.ray.get(reference)
        except self.ray.exceptions.RayActorError as e:
            yield from self._died(replica, str(e))
        except EngineLost as e:
            self.lost += 1
            if not self.answered and self.lost > len(self.replicas):
                raise EngineLost(str(e.args[0] if e.args else e)) from None  # another worker would not load it either
            self.ray.kill(replica.actor, no_restart=False)
            yield from self._died(replica, str(e))
        else:
            replica.up = True
            if batch is None:
                replica.node, replica.first = results, replica.first or time.monotonic()
            else:
                replica.rows += len(results)
                replica.tokens += sum(result.completion_tokens for result in results)
                self.answered += 1
                replica.batches.remove(batch)
                yield from results

    def _died(self, replica: _Replica, why: str) -> Iterator[Result]:
        """Put what a dead worker had back in the queue."""
        for reference in [r for r, (its, _) in self.pending.items() if its is replica]:
            del self.pending[reference]
        replica.deaths += replica.up  # one that never came up has not died
        running, *waiting = replica.batches or [[]]
        if running:
            log.warning("a Ray worker died with %d rows, which are asked again: %s", sum(map(len, replica.batches)),
                        " ".join(why.split())[:200])
        replica.batches.clear()
        replica.up, replica.again = False, time.monotonic() + TICK
        self.again.extend(waiting)
        yield from self._halved(running)

    def _halved(self, batch: Batch) -> Iterator[Result]:
        half = (len(batch) + 1) // 2
        if len(batch) != 1:
            self.again.extend(part for part in (batch[:half], batch[half:]) if part)
            return
        key = batch[0].row_key
        self.deaths[key] += 1
        if self.deaths[key] < DEATHS:
            self.again.append(batch)
        else:
            yield Result(row_key=key, error=f"{DEATHS} workers died on this row")
