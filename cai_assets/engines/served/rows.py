"""One row on its way through a fleet, until it is answered, refused, or out of attempts.

A fault is the row's own only if every server in turn has it. Then it takes one of the row's attempts and one from a
budget that all rows share, so that a fleet which answers nothing usable fails rows quickly; and it waits with full
jitter, or as long as Retry-After asks. What is a server's fault takes nothing from the row, and neither does being
turned away (status 429) by one that answers others.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from cai_assets.engines.protocol import Request, Result
from cai_assets.engines.served.body import Body, Kind
from cai_assets.engines.served.client import Away, Refused
from cai_assets.engines.served.dialect import Dialect, helped
from cai_assets.engines.served.first import First
from cai_assets.engines.served.fleet import Fleet, Server, doubled
from cai_assets.engines.served.reply import EXCERPT, Unusable, read_reply

LONGEST_DELAY = 30.0
FREE_RETRIES = 100.0
EARNED_RETRIES = 0.2
"""Retries that a run may spend in a burst, and how many each success adds."""
STILL_ANSWERS = 120.0  # seconds since a server's last answer: the longest Retry-After, twice


@dataclass
class Row:
    """``tried``: unusable replies by server; ``alone``: the server that refused it and served others right after;
    ``away``: how often it was turned away for nothing, ``since`` when."""

    request: Request
    body: Body
    turn: int
    attempts: int = 0
    tried: Counter[Server] = field(default_factory=Counter)
    alone: Server | None = None
    away: int = 0
    since: float = math.inf


class Rows:
    """Sends rows to a fleet. ``served``: the names by which the model may answer, its own first; ``retries``: of a
    row; ``first_delay``: seconds, the upper bound of its first wait, which doubles up to LONGEST_DELAY."""

    def __init__(
        self, fleet: Fleet, dialect: Dialect, first: First, served: Collection[str], retries: int, first_delay: float
    ) -> None:
        self.fleet, self.dialect, self.first, self.served = fleet, dialect, first, served
        self.retries, self.first_delay = retries, first_delay
        self.left = FREE_RETRIES
        self._ended: dict[Kind, Result] = {}  # what fails whatever the row, with the setting that helps

    async def answer(self, row: Row) -> Result:
        """The row's one result. Raise EngineLost if no server serves any row."""
        async with self.first.turn(row.body.kind):
            if ended := self._ended.get(row.body.kind):
                return ended.model_copy(update={"row_key": row.request.row_key})
            return await self._answer(row)

    async def _answer(self, row: Row) -> Result:
        while True:
            server = await self.fleet.take(row.body.path, row.turn, row.tried)
            body, adapted = self.dialect(row.body.fields)
            try:
                result = await self._ask(server, row, body)
            except (Away, Unusable) as e:
                said = _brief(server, e)
                if isinstance(e, Away) and e.refused and await self._serves_others(server, row):
                    self.fleet.good(server, {})
                    if row.alone is server:
                        return _failed(row, said, refused=True)
                    row.alone = server  # which may have come back in between
                    continue
                self.fleet.bad(server, e, said)
                if self._is_lost(row, server, e):
                    return self._fail(row, said)
                await self._wait(row, server, e)
            except ValueError as e:
                self.fleet.good(server, {})
                self.dialect.learn(_brief(server, e) if isinstance(e, Refused) else "", row.body.fields)
                if body == self.dialect(row.body.fields).body:
                    return self._fail(row, _brief(server, e), refused=True)
            else:
                self.fleet.good(server, {row.body.path: body})
                self.first.answered.add(row.body.kind)
                self.left = min(FREE_RETRIES, self.left + EARNED_RETRIES)
                adapted = (*row.body.adapted, *adapted)
                return result.model_copy(update={"adapted": adapted}) if adapted else result

    def _fail(self, row: Row, said: str, *, refused: bool = False) -> Result:
        """The failed row, with the setting that helps: if one does, the calls of this kind need not be sent."""
        failed = _failed(row, helped(said), refused=refused)
        if helped(said) != said and row.body.kind not in self.first.answered:
            self._ended[row.body.kind] = failed
        return failed

    async def _ask(self, server: Server, row: Row, body: bytes) -> Result:
        began = time.monotonic()
        reply = await server.client.post(row.body.path, body)
        result = read_reply(row.request, reply, self.served, row.body.names)
        server.seen.add(began, result.completion_tokens, server.flight)
        if server.client.mask.told_in(result.text):
            raise Unusable("the answer repeats a credential that the server was sent")
        return result

    async def _serves_others(self, server: Server, row: Row) -> bool:
        """Whether a server that refused a row still answers what it answered before: then it refuses the row alone."""
        if (before := server.answered.get(row.body.path)) is None:
            return False
        try:
            return bool(await server.client.post(row.body.path, before))
        except (Away, Unusable, Refused):
            return False

    def _is_lost(self, row: Row, server: Server, fault: Away | Unusable) -> bool:
        """Count a fault; whether it was the last that the row may have."""
        if isinstance(fault, Away):
            return False
        row.tried[server] += 1
        if self._of_the_server(row, server) or (fault.full and self._may_wait(row, server)):
            return False
        row.attempts += 1
        if row.attempts > self.retries or self.left < 1:
            return True
        self.left -= 1
        return False

    def _may_wait(self, row: Row, server: Server) -> bool:
        """Count that it was turned away; whether the server answers others, and has not done so to it for too long."""
        now = time.monotonic()
        row.away, row.since = row.away + 1, min(row.since, now)
        return now - server.heard < STILL_ANSWERS and now - row.since < self.fleet.patience

    async def _wait(self, row: Row, server: Server, fault: Away | Unusable) -> None:
        if isinstance(fault, Unusable) and not self._of_the_server(row, server):
            times = row.attempts + row.away - 1
            jitter = random.uniform(0, doubled(self.first_delay, times, LONGEST_DELAY))
            await asyncio.sleep(max(fault.wait, jitter))

    def _of_the_server(self, row: Row, server: Server) -> bool:
        """Whether the server is out of turn, or another one may still answer the row."""
        return server.since is not None or self.fleet.untried(row.tried, server)


def _failed(row: Row, why: str, *, refused: bool = False) -> Result:
    tries = sum(row.tried.values()) + refused
    return Result(row_key=row.request.row_key, error=f"after {max(tries, 1)} attempt(s): {why}", refused=refused)


def _brief(server: Server, error: Exception) -> str:
    return server.client.mask(str(error))[:2 * EXCERPT]
