"""The terminal's view of a run: the time, the asset and its message, one line each; and what the store tells."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import dagster as dg

from cai_assets.defs.following import Follower, Silent
from cai_assets.store import this_run

PIPES = "[pipes]"  # Dagster's words about the channel to a trainer

_follower: ContextVar[Follower] = ContextVar("follower", default=Silent())  # noqa: B039 - it has no state


class _Brief(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        step, text = _step_and_text(record)
        return f"{self.formatTime(record, '%H:%M:%S')} {step:<20} {text}"


class _Told(logging.Handler):
    """Passes on to whoever follows the run what assets say; of Dagster's own events it hears otherwise."""

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self._follower = follower

    def emit(self, record: logging.LogRecord) -> None:
        step, text = _step_and_text(record)
        if getattr(record, "dagster_meta", {}).get("dagster_event") is not None or text.startswith(PIPES):
            return
        self._follower.said(step, text, warning=record.levelno >= logging.WARNING)


def _step_and_text(record: logging.LogRecord) -> tuple[str, str]:
    meta = getattr(record, "dagster_meta", {})
    return (meta.get("step_key") or meta.get("job_name") or "run", meta.get("orig_message") or record.getMessage())


@dg.logger(config_schema={"log_level": dg.Field(str, default_value="INFO", is_required=False)},
           description="Brief lines on stderr; the UI keeps the full event log")
def brief_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """A logger that writes what assets say, and leaves Dagster's own events to the UI."""
    logger = logging.Logger("cai", level=context.logger_config["log_level"])
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Brief())
    for handler in (lines, _Told(_follower.get())):
        handler.addFilter(lambda record: "Not executing." not in record.getMessage())  # a line for every step below
        logger.addHandler(handler)
    return logger


@contextmanager
def following(follower: Follower) -> Iterator[None]:
    """Runs that start in this block tell the follower what they log."""
    token = _follower.set(follower)
    try:
        yield
    finally:
        _follower.reset(token)


@contextmanager
def told_to(log: logging.Logger | None) -> Iterator[None]:
    """Have the run's log show what the store tells (``store/this_run.py``)."""
    handler = _Forward(log) if log else logging.NullHandler()
    this_run.LOG.addHandler(handler)
    try:
        yield
    finally:
        this_run.LOG.removeHandler(handler)


class _Forward(logging.Handler):
    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage())
