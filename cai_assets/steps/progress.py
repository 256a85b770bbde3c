"""Progress of long work: one line now and then, with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST = 0.1  # seconds

class Progress:
    """Counts work and writes lines such as ``critique: 96/384 rows · 2.1 rows/s · 118 tokens/s · 02:17 left``."""

    def __init__(self, what: str, total: int, log: Callable[[str], None], *, every: float = 5.0,
                 also: Callable[[], str] = str) -> None:
        """``also``: what each line ends with, asked for as it is written."""
        self._what, self._total, self._log, self._every = what, total, log, every
        self._also = also
        self._start = self._last = float("nan")
        self._done = self._tokens = 0

    def add(self, rows: int, tokens: int = 0) -> None:
        """Count finished work; write a line if the last one is old enough or all is done."""
        now = time.monotonic()
        if not self._done:  # the clock starts at the first result: loading a model says nothing about the rate
            self._start = self._last = now
        self._done += rows
        self._tokens += tokens
        if now - self._last >= self._every or self._done >= self._total:
            self._last = now
            self._log(self.line(now))

    def less(self, rows: int) -> None:
        """So many rows turn out not to be needed."""
        self._total -= rows

    def line(self, now: float) -> str:
        """The line as of ``now``; the first row has no rate yet, nor has what came in one burst."""
        counted = f"{self._what}: {self._done}/{self._total} rows"
        seconds = now - self._start
        if self._done < 2 or seconds < BURST:
            return counted
        rate = (self._done - 1) / seconds
        left = int((self._total - self._done) / rate)
        return " · ".join(filter(None, [
            counted, f"{rate:.1f} rows/s", f"{self._tokens / seconds:.0f} tokens/s",
            f"{left // 60:02d}:{left % 60:02d} left", self._also()]))
