"""The first call of each kind goes ahead, so that what a server does not take is refused once and not to every row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from cai_assets.engines.served.body import Kind

FIRST_WORD = 5.0  # seconds; a refusal comes before any token is made, and a long answer need not be waited for


class First:
    """The kinds of calls of one run. ``answered``: those that a server has answered, now or in an earlier run."""

    def __init__(self, answered: set[Kind]) -> None:
        self.answered = answered
        self._heard: dict[Kind, asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, kind: Kind) -> AsyncIterator[None]:
        """Of the first call of a kind at once; of others when it is over, or has taken FIRST_WORD."""
        if kind in self.answered:
            yield
        elif kind in self._heard:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard[kind].wait(), FIRST_WORD)
            yield
        else:
            heard = self._heard[kind] = asyncio.Event()
            try:
                yield
            finally:
                heard.set()
