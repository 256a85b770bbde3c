"""How many calls one server has at once: a number that is given, or one that finds itself.

It grows while that makes the server answer more calls a second, at first twofold, then by a quarter; when that no
longer helps it goes back, and from then on tries a little more and a little less now and then. A refusal for lack of
room (status 429, 503) or a timeout takes a third of it away, once for all calls that were on their way. This is the
rule of additive increase and multiplicative decrease (Chiu and Jain 1989) with throughput in place of latency as the
sign that a server is full, because one that batches, as vLLM does, answers each call later and all of them sooner.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

START, MOST = 32, 1024  # calls at once
WINDOW = 64  # the fewest replies that a rate is measured over
DOUBLED, MORE = 1.2, 1.05  # by how much the rate must have grown, after twofold and after smaller growth
HELD = 8  # windows until the next trial
KEPT = 2 / 3


class Limit(Protocol):
    """``now``: the most calls at once."""

    now: int

    def answered(self, flight: int) -> None:
        """A reply has come; with it ``flight`` calls were on their way."""

    def refused(self, flight: int) -> None:
        """A call was refused for lack of room, or timed out; ``flight``: those on their way, with it."""


class Given:
    """A number of calls at once, whatever happens."""

    def __init__(self, most: int) -> None:
        self.now = most

    def answered(self, flight: int) -> None:
        pass

    def refused(self, flight: int) -> None:
        pass


class Found:
    """The number of calls at once with which a server answers the most calls a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = self._best = START
        self._clock = clock
        self._rate = 0.0  # in calls a second, with ``_best`` at once; 0: not measured
        self._doubling, self._fewer = True, False  # what the next trial is
        self._held = 0  # windows until then
        self._pardoned = 0  # refusals that a cut has answered already
        self._begin()

    def answered(self, flight: int) -> None:
        """Count a reply, and at the end of a window go up, back or on."""
        self._pardoned = max(0, self._pardoned - 1)
        if self._early:
            self._early -= 1
            self._since = self._clock()
            return
        self._count += 1
        self._full += flight >= self.now
        if self._count < max(WINDOW, 2 * self.now):
            return
        seconds = self._clock() - self._since
        if 2 * self._full >= self._count and seconds > 0:  # with less to do a rate says nothing
            self._decide(self._count / seconds)
        self._begin()

    def refused(self, flight: int) -> None:
        if self._pardoned:
            self._pardoned -= 1
            return
        self._pardoned = flight - 1
        self.now = self._best = max(1, int(self.now * KEPT))
        self._rate = 0.0
        self._hold(fewer=False)
        self._begin()

    def _decide(self, rate: float) -> None:
        if self.now == self._best:
            self._rate = (self._rate + rate) / 2 if self._rate else rate
            self._held -= 1
            if self._held < 0:
                self._try()
            return
        wanted = DOUBLED if self._doubling else 1 / MORE if self._fewer else MORE
        if rate < self._rate * wanted:
            self.now = self._best
            self._hold(fewer=not self._fewer)
            return
        self._best, self._rate = self.now, rate
        if self._fewer:
            self._hold(fewer=False)
        else:
            self._try()

    def _try(self) -> None:
        step = max(1, self._best // 4)
        wanted = 2 * self._best if self._doubling else self._best - step if self._fewer else self._best + step
        self.now = min(max(wanted, 1), MOST)

    def _hold(self, *, fewer: bool) -> None:
        self._doubling, self._held, self._fewer = False, HELD, fewer

    def _begin(self) -> None:
        """A new window, after the replies to what was sent under another limit."""
        self._early, self._count, self._full = self.now, 0, 0
        self._since = self._clock()
