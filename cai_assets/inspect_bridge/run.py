"""Runs suites under Inspect from Python, as ``cai inspect`` does, and reads the logs back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import Model, get_model

from cai_assets.errors import CaiError
from cai_assets.inspect_bridge import _registry
from cai_assets.inspect_bridge.rows import opened

Measured = tuple[str, float | None, float | None, float | None, int, int]


class BridgeError(CaiError):
    """A suite, policy or run that failed. The message says which and why."""


class SuiteLog(NamedTuple):
    """``rows``: measure, value over all modes, ends of its interval, requests, and samples that have no value."""

    suite: str
    path: str
    samples: int
    failed: int
    generated: int
    reused: int
    rows: list[Measured]


def run_suites(
    suites: Sequence[str], policy: str, *, log_dir: Path, settings: Mapping[str, Any], version: str | None = None
) -> list[SuiteLog]:
    """Run each suite on a policy; write one log each. Raise BridgeError."""
    options = {"settings": dict(settings)}
    where = version or policy.partition("@")[2] or None
    try:
        model = get_model(f"cai/{policy}", memoize=False, **options)  # the environment also matters
        tasks = [_registry.suite(name=name, version=where, policy=policy, **options) for name in suites]
    except CaiError as e:
        raise BridgeError(str(e)) from None
    project, thread = opened(settings)
    try:
        return [_one(task, model, log_dir) for task in tasks]
    finally:
        thread.submit(project.close).result()


def _one(task: Any, model: Model, log_dir: Path) -> SuiteLog:
    (log,) = inspect_eval(task, model=model, log_dir=str(log_dir), display="log", log_level="info")
    if log.status != "success" or log.results is None:
        raise BridgeError(f"{task.name}: {log.error.message if log.error else log.status} (log: {log.location})")
    samples = read_eval_log(log.location).samples or []
    calls = Counter((event.output.metadata or {}).get("status") for s in samples for event in s.events
                    if event.event == "model")
    return SuiteLog(task.name, log.location, len(samples), sum(s.error is not None for s in samples),
                    calls["generated"], calls["reused"], list(measured(log)))


def measured(log: EvalLog) -> Iterator[Measured]:
    """Each measure over all modes of a log."""
    for score in log.results.scores if log.results else ():
        value, low, high, n = (score.metrics[f"all{end}"].value for end in ("", "_low", "_high", "_n"))
        yield (score.name, *(None if math.isnan(x) else float(x) for x in (value, low, high)), int(n),
               score.unscored_samples or 0)
