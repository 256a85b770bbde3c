"""What failed in a run, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from cai_assets.errors import CaiError


def canceled(result: dg.JobExecutionResult) -> bool:
    """Whether it was ended by Ctrl-C, SIGTERM, or Terminate in the UI."""
    return result.dagster_run.status is dg.DagsterRunStatus.CANCELED


def failures(result: Any) -> Iterator[str]:
    """What failed: blocking checks, steps, or the run itself before any of them."""
    blocked, steps = failed_checks(result), result.get_failed_step_keys()
    for step in steps:
        yield from blocked.pop(step, None) or [f"{step} failed: {_cause(result.failure_data_for_node(step))}"]
    for event in () if steps else result.filter_events(lambda e: e.is_job_failure):
        yield f"the run failed: {_cause(event.job_failure_data)}"


def failed_checks(result: Any) -> dict[str, list[str]]:
    """By step, what the blocking checks say that failed in a run: Dagster's own error names them and no more."""
    said: dict[str, list[str]] = {}
    for event in result.filter_events(lambda e: e.event_type_value == "ASSET_CHECK_EVALUATION"):
        check = event.event_specific_data
        if not check.passed and check.blocking:
            said.setdefault(str(event.step_key), []).append(
                f"{check.asset_key.to_user_string()}: {check.check_name} failed: {check.description}")
    return said


def _cause(failure: Any) -> str:
    """What really happened, which Dagster wraps: an error of ours, which says what to do, else the first of all."""
    said = getattr(failure, "user_failure_data", None)  # of a step
    if said and said.description:
        return str(said.description)
    chain = []
    error = failure.error if failure else None
    while error is not None:
        chain.append(error)
        error = error.cause
    if not chain:
        return "see the log above"
    ours = _names(CaiError)
    told = next((e for e in chain if e.cls_name in ours), None)
    text = str((told or chain[-1]).message).strip()
    return text.partition(": ")[2] or text if told else text


def _names(error: type[Exception]) -> set[str]:
    """The name of an error's class and of every class under it."""
    return {error.__name__}.union(*map(_names, error.__subclasses__()))
