"""A terminal that shows a run and nothing else: what libraries print goes into a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

KEPT = 100  # of the newest logs


def log_file(name: str) -> Path:
    """Where what the libraries print goes: a new file in Dagster's home."""
    from cai_assets.defs.home import use_project_home

    return use_project_home() / "output" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}.log"


@contextmanager
def quiet(log: Path) -> Iterator[TextIO]:
    """Send what this process and its children write to stdout and stderr into ``log``; yield the real stderr."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(log.parent.glob("*.log"), reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)
    with ExitStack() as stack:
        file = stack.enter_context(log.open("a", encoding="utf-8", errors="replace", buffering=1))
        terminal = stack.enter_context(_kept(sys.stderr))
        for number in (1, 2):
            stack.enter_context(_instead(number, file))
        stack.enter_context(redirect_stdout(file))
        stack.enter_context(redirect_stderr(file))
        yield terminal


@contextmanager
def _kept(stream: TextIO) -> Iterator[TextIO]:
    """The stream; a copy of it where it writes to a descriptor that is about to lead elsewhere."""
    try:
        leads_away = stream.fileno() in {1, 2}
    except (OSError, ValueError):
        leads_away = False
    if not leads_away:
        yield stream
        return
    with os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="replace", buffering=1) as copy:
        yield copy


@contextmanager
def _instead(number: int, file: TextIO) -> Iterator[None]:
    """Let a descriptor of this process lead into the file."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    try:
        before = os.dup(number)
    except OSError:  # it is closed
        yield
        return
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        file.flush()
        os.dup2(before, number)
        os.close(before)
