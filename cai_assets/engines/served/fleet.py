"""Whose turn it is among the servers of a model: those that answer, and now and then one that did not.

A server is out of turn when it cannot be reached or refuses everybody, or after ENOUGH faults in a row while another
one works. It is then tried with one row after a pause that doubles each time; any success brings it back. While no
server is in turn rows wait, spending nothing, for ``patience`` seconds; then the model is lost, in one line with each
server's last sentence.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cai_assets.engines.models import EngineLost
from cai_assets.engines.served.client import Away, Client
from cai_assets.engines.served.limit import Found, Given, Limit
from cai_assets.engines.served.reply import Unusable
from cai_assets.engines.served.seen import Seen

ENOUGH = 5  # faults in a row: of rows that are bad by themselves, seldom so many follow each other everywhere
LONGEST_PAUSE = 60.0
FIRST_PATIENCE = 10.0  # seconds for servers of which none has answered yet: a wrong address should be said soon
log = logging.getLogger(__name__)


def doubled(seconds: float, times: int, most: float) -> float:
    """Seconds doubled so often, up to the most; however often, also past what a float holds."""
    return min(most, seconds * 2.0 ** min(times, 64))


@dataclass(eq=False)
class Server:
    """One server as this process has met it. ``since``: when it went out of turn, None while it is in turn; ``heard``:
    when it last answered."""

    client: Client
    answered: dict[str, bytes] = field(default_factory=dict)  # the last call that it answered, by path
    faults: int = 0  # in a row
    pauses: int = 0  # in a row
    since: float | None = None
    heard: float = -math.inf
    again: float = 0.0  # when it is tried next
    trying: bool = False
    flight: int = 0  # calls without a reply
    passed: int = 0  # replies of others since its last one, or since it was idle
    said: str = ""
    refused: bool = False
    limit: Limit = field(default_factory=Found)
    seen: Seen = field(default_factory=Seen)

    @property
    def full(self) -> bool:
        return self.flight >= self.limit.now


class Fleet:
    """The servers of one model, during one run."""

    def __init__(
        self, clients: Sequence[Client], before: Fleet | None, *, patience: float, pause: float,
        concurrency: int | Literal["auto"],
    ) -> None:
        """``before``: the same servers in an earlier run; ``patience``, ``pause`` (the first one): seconds;
        ``concurrency``: the most calls in flight over all servers; 'auto': as many as each is found to take."""
        known: list[Server] = before.servers if before else [
            Server(client, limit=Found() if concurrency == "auto" else Given(concurrency)) for client in clients]
        self.servers: list[Server] = [
            replace(s, client=c, flight=0, trying=False) for s, c in zip(known, clients, strict=True)]
        self.patience, self.pause, self.concurrency = patience, pause, concurrency
        self._alone = time.monotonic()  # when the last one to go went out of turn, or the run began
        self._changed = asyncio.Event()

    @property
    def room(self) -> int:
        """The most calls in flight over all servers, as of now."""
        if self.concurrency != "auto":
            return self.concurrency
        return sum(s.limit.now for s in self.servers if s.since is None) or 1

    async def take(self, path: str, turn: int, tried: Counter[Server]) -> Server:
        """The server that a row is sent to next: the one it was sent to least, by turns. Raise EngineLost."""
        while (server := self._due() or self._next(turn, tried)) is None:
            if any(s.since is None for s in self.servers):
                await self._changed.wait()
            else:
                await self._wait(path)
        server.trying = server.since is not None
        server.passed = server.passed if server.flight else 0
        server.flight += 1
        return server

    def good(self, server: Server, answered: Mapping[str, bytes]) -> None:
        """It works. ``answered``: the call by its path, unless the row is one that cannot be served."""
        server.limit.answered(server.flight)
        if server.since is not None:
            log.warning("%s answers again and is back in turn", server.client.address)
        server.answered |= answered
        server.faults = server.pauses = 0
        server.since, server.heard = None, time.monotonic()
        for other in self.servers:
            other.passed += 1
        self._returned(server)

    def bad(self, server: Server, fault: Unusable | Away, said: str) -> None:
        """It gave no usable reply. Out of turn, unless that may be the row's fault, or there is no other.

        ``said``: the fault without credentials.
        """
        server.faults += 1
        if isinstance(fault, Unusable) and fault.busy:
            server.limit.refused(server.flight)
        server.said, server.refused = said, isinstance(fault, Away) and fault.refused
        others = any(s.since is None for s in self.servers if s is not server)
        if isinstance(fault, Away) or server.trying or (server.faults >= ENOUGH and (fault.gone or others)):
            self._put_out(server)
        elif fault.wait and others:
            self._put_out(server, fault.wait)
        self._returned(server)

    def untried(self, tried: Counter[Server], server: Server) -> bool:
        """Whether another server in turn has had a row less often than this one."""
        return any(tried[s] < tried[server] for s in self.servers if s.since is None)

    def _returned(self, server: Server) -> None:
        server.flight -= 1
        server.passed, server.trying = 0, False
        self._changed.set()
        self._changed = asyncio.Event()

    def _put_out(self, server: Server, pause: float = 0.0) -> None:
        if server.since is not None and not server.trying:
            return  # by a call of the same moment
        now = time.monotonic()
        server.again = now + (pause or doubled(self.pause, server.pauses, LONGEST_PAUSE))
        server.pauses += not pause
        if server.since is None:
            log.warning("%s is out of turn: %s", server.client.address, server.said)
            server.since = self._alone = now

    def _due(self) -> Server | None:
        now = time.monotonic()
        return next((s for s in self.servers if s.since is not None and not s.trying and s.again <= now), None)

    def _next(self, turn: int, tried: Counter[Server]) -> Server | None:
        servers = [s for s in self.servers if s.since is None]
        servers = [s for s in servers if not self._silent(s, len(servers))] or servers
        servers = [s for s in servers if not s.full]
        if not servers:
            return None
        start = turn % len(servers)
        return min(servers[start:] + servers[:start], key=tried.__getitem__)

    def _silent(self, server: Server, servers: int) -> bool:
        """It has its full share of calls, and the others have answered half as many again since it was heard."""
        return server.flight * servers >= self.room and server.passed * servers * 2 >= self.room * 3

    async def _wait(self, path: str) -> None:
        """Until a server may be tried, or one has answered. Raise EngineLost when patience is at its end."""
        now = time.monotonic()
        until = self._alone + (self.patience if any(s.answered for s in self.servers) else
                               min(self.patience, FIRST_PATIENCE))
        hopeless = all(s.refused and path not in s.answered and not s.flight for s in self.servers)
        if now >= until or hopeless:
            raise EngineLost("; ".join(f"{s.client.address}: {s.said}" for s in self.servers))
        tries = [s.again for s in self.servers if not s.trying]
        try:
            async with asyncio.timeout(max(0.0, min([until, *tries]) - now) + 0.001):
                await self._changed.wait()
        except TimeoutError:
            return
