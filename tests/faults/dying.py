"""Runs in a process of their own that die at a chosen moment, or see a clock that is wrong."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from histories import History, copy_instead_of_training
from patience import Watch, until

from cai_assets.defs import launch

SETTLING = ("replace", "rename", "link", "unlink", "fsync")  # where a file gets its name, loses it, or reaches the disk
_apart = multiprocessing.get_context("spawn")  # a fork would inherit the locks of polars' threads


def run_apart(history: History, root: Path, prepare: Callable[..., None], *arguments: Any) -> int:
    """Materialize the history in another process, which ``prepare`` gets ready; return how it ended.

    0: the run succeeded. 1: it failed. Negative: the signal that ended it.
    """
    process = _apart.Process(target=_run, args=(history, root, prepare, arguments))
    process.start()
    until(lambda: process.exitcode is not None, Watch(root, processes=[process.pid or 0]))
    process.join()
    return process.exitcode or 0


def _run(history: History, root: Path, prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    launch._run = copy_instead_of_training
    prepare(*arguments)
    sys.exit(not history.run(root)[0])


def die_at(count: int, *, before: bool) -> None:
    """End this process without a word at the count-th rename, link, unlink or sync, before or after it is done."""
    moments = itertools.count(1)

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def settle(*args: Any, **kwargs: Any) -> Any:
            mine = next(moments) == count
            if mine and before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return settle

    for name in SETTLING:
        setattr(os, name, dying(getattr(os, name)))


def die_before(count: int) -> None:
    die_at(count, before=True)


def die_after(count: int) -> None:
    die_at(count, before=False)


def step_the_clock(seconds: float) -> None:
    """This process lives at another time, as Python sees it."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def nothing() -> None:
    """No disturbance."""
