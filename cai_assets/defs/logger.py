"""The terminal's view of a run: the time, the asset and its message, one line each; and what the store tells."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from cai_assets.store import this_run


class _Brief(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        step = meta.get("step_key") or meta.get("job_name") or "run"
        text = meta.get("orig_message") or record.getMessage()
        return f"{self.formatTime(record, '%H:%M:%S')} {step:<20} {text}"


@dg.logger(config_schema={"log_level": dg.Field(str, default_value="INFO", is_required=False)},
           description="Brief lines on stderr; the UI keeps the full event log")
def brief_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """A logger that writes what assets say, and leaves Dagster's own events to the UI."""
    logger = logging.Logger("cai", level=context.logger_config["log_level"])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Brief())
    handler.addFilter(lambda record: "Not executing." not in record.getMessage())  # a line for every step below
    logger.addHandler(handler)
    return logger


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
