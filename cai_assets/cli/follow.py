"""A run as the terminal shows it: one line for each asset that is made, and one that moves below them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cai_assets.reports.summary import Line

CHECKS = "_checks"  # how the names of steps that only check end
RUN = "all"  # the job: what belongs to no step
PIPED_SECONDS = 60.0  # between two lines about the progress of one step, where no line can move


class Check(NamedTuple):
    """A check that did not pass."""

    asset: str
    name: str
    description: str
    blocking: bool


class Terminal:
    """Follows a run (``defs/following.py``). ``about``: the first line; ``read``: the line about an asset that was just
    made, by a run; ``live``: whether a line moves, which nothing else may write over."""

    def __init__(
        self, file: TextIO, about: str, read: Callable[[str, str], Line | None], *, live: bool = True
    ) -> None:
        self.console = Console(file=file)
        self.failed_checks: list[Check] = []
        self.checks = 0
        self._about, self._read, self._run_id = about, read, ""
        self._progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                                  console=self.console, transient=True, disable=not (live and self.console.is_terminal),
                                  redirect_stdout=False, redirect_stderr=False)  # those lead into the log
        self._task = self._progress.add_task("starting", total=None)
        self._said = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line that moves, while the block runs."""
        with self._progress:
            yield

    def started(self, run_id: str) -> None:
        self._run_id = run_id
        self._print(self._about, "bold")

    def began(self, step: str) -> None:
        if not step.endswith(CHECKS):
            self._moves(f"{step:<20}")
            self._progress.reset(self._task)
            self._said = time.monotonic()

    def said(self, step: str, line: str, *, warning: bool) -> None:
        first = line.strip().partition("\n")[0]
        if warning:
            self._print(f"{step}: {line}" if step != RUN else line, "yellow")
            return
        self._moves(f"{step if step != RUN else '':<20} {first}")
        if not self.console.is_terminal and time.monotonic() - self._said > PIPED_SECONDS:
            self._said = time.monotonic()
            self._print(f"  {step:<20} {first}")

    def made(self, asset: str) -> None:
        line = self._read(asset, self._run_id)
        if line is not None:
            self._print(f"✓ {asset:<20} {line.seconds:>7.1f} s  {line.text}")

    def checked(self, asset: str, check: str, description: str, *, passed: bool, blocking: bool) -> None:
        self.checks += 1
        if not passed:
            self.failed_checks.append(Check(asset, check, description, blocking))

    def ended(self, step: str, *, well: bool) -> None:
        if not well:
            self._print(f"✗ {step}", "red")

    def _moves(self, text: str) -> None:
        self._progress.update(self._task, description=escape(text[:max(20, self.console.width - 14)]))

    def _print(self, text: str, style: str = "") -> None:
        self._progress.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
