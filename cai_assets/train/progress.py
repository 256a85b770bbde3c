"""What a training run reports while it runs: at most one line every two seconds, via Dagster Pipes or to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Say = Callable[[str], None]


class Reporter:
    """Turns steps into lines like 'step 3/10 · 2.1 steps/s · 00:12 left · loss 2.31'."""

    def __init__(self, say: Say, *, every: float = 2.0) -> None:
        self.say = say
        self._every = every
        self._begun: tuple[int, float] | None = None
        self._said = float("-inf")

    def begin(self, step: int) -> None:
        """Start the clock; ``step`` steps are done already."""
        self._begun = (step, time.monotonic())

    def step(self, step: int, total: int, shown: Mapping[str, float]) -> None:
        """Report a finished step. The first and the last are always reported."""
        now = time.monotonic()
        if self._begun is None:
            self.begin(step - 1)
        if step < total and now - self._said < self._every:
            return
        self._said = now
        self.say(" · ".join([f"step {step}/{total}", *self._pace(step, total, now), *_values(shown)]))

    def _pace(self, step: int, total: int, now: float) -> list[str]:
        first, start = self._begun or (step, now)
        if step <= first or now <= start:
            return []
        rate = (step - first) / (now - start)
        left = round((total - step) / rate)
        return [f"{rate:.2g} steps/s", f"{left // 60:02d}:{left % 60:02d} left"]


def _values(shown: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.3g}" for name, value in shown.items()]


@contextmanager
def open_reporter(*, main_process: bool, into: Path | None = None) -> Iterator[Reporter]:
    """A reporter for this process; silent except in the first of several processes. ``into``: a file that takes the
    lines instead."""
    if not main_process:
        yield Reporter(lambda _: None)
        return
    if into is not None:
        yield Reporter(lambda text: _append(into, text))
        return
    from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        yield Reporter(_to_stderr)
        return
    with open_dagster_pipes() as pipes:
        yield Reporter(pipes.log.info)


def _append(file: Path, text: str) -> None:
    with file.open("a", encoding="utf-8") as f:
        f.write(" ".join(text.splitlines()) + "\n")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Curves:
    """``curves.jsonl``: one JSON object per step, ``step`` counting from 1."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows. A last line cut short by a crash is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def keep(self, step: int) -> None:
        """Drop what comes after ``step``: a resumed training run writes it again."""
        kept = [row for row in self.rows() if row["step"] <= step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def amend(self, step: int, values: Mapping[str, Any]) -> None:
        """Add values to the row of the last step, or create the row."""
        rows = self.rows()
        row = rows[-1] if rows and rows[-1]["step"] == step else {"step": step}
        self.keep(step - 1)
        self.add({**row, **values})

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        with self.path.open("a", encoding="utf-8") as f:
            f.write(json.dumps(dict(row), allow_nan=False) + "\n")
