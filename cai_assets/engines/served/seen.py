"""How fast a server has answered: latencies and tokens, for people to see."""

from __future__ import annotations

import statistics
import time
from collections import deque

LATEST = 1000  # replies that the latencies are of


class Seen:
    """Of one server, in one process."""

    def __init__(self) -> None:
        self.replies = self.tokens = self.most = 0
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._began = self._ended = 0.0

    def add(self, began: float, tokens: int, flight: int) -> None:
        """A reply to a call that was sent at ``began`` (monotonic seconds), with ``flight`` calls on their way."""
        now = time.monotonic()
        self._began, self._ended = self._began or began, now
        self._latest.append(now - began)
        self.replies, self.tokens, self.most = self.replies + 1, self.tokens + tokens, max(self.most, flight)

    def __str__(self) -> str:
        """'1,204 replies, at most 64 at once, p50 0.8 s, p99 2.1 s, 850 tokens/s'."""
        if not self.replies:
            return "no reply"
        ranks = statistics.quantiles([*self._latest, *self._latest], n=100, method="inclusive")
        rate = self.tokens / max(self._ended - self._began, 1e-9)
        return (f"{self.replies:,} replies, at most {self.most} at once, p50 {ranks[49]:.2g} s, p99 {ranks[98]:.2g} s, "
                f"{rate:,.0f} tokens/s")
