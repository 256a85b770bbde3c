"""How a run goes, told to whoever follows it: the terminal."""

from __future__ import annotations

from typing import Any, Protocol

import dagster as dg


class Follower(Protocol):
    """Hears of a run, in its order; ``said`` may come from another thread."""

    def started(self, run_id: str) -> None:
        """The run exists."""

    def began(self, step: str) -> None:
        """A step has started: an asset, or two that are made together."""

    def said(self, step: str, line: str, *, warning: bool) -> None:
        """A line of the run's log."""

    def made(self, asset: str) -> None:
        """An asset was materialized, and its record is written."""

    def checked(self, asset: str, check: str, description: str, *, passed: bool, blocking: bool) -> None:
        """An asset check was evaluated."""

    def ended(self, step: str, *, well: bool) -> None:
        """A step has ended."""


class Silent:
    """Follows a run and says nothing."""

    def started(self, run_id: str) -> None: ...
    def began(self, step: str) -> None: ...
    def said(self, step: str, line: str, *, warning: bool) -> None: ...
    def made(self, asset: str) -> None: ...
    def checked(self, asset: str, check: str, description: str, *, passed: bool, blocking: bool) -> None: ...
    def ended(self, step: str, *, well: bool) -> None: ...


def told_of(event: dg.DagsterEvent, follower: Follower) -> None:
    """Tell of an event what there is to tell."""
    step, data = str(event.step_key), event.event_specific_data
    match event.event_type:
        case dg.DagsterEventType.STEP_START:
            follower.began(step)
        case dg.DagsterEventType.ASSET_MATERIALIZATION:
            follower.made(event.asset_key.to_user_string() if event.asset_key else step)
        case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            _check(data, follower)
        case dg.DagsterEventType.STEP_SUCCESS:
            follower.ended(step, well=True)
        case dg.DagsterEventType.STEP_FAILURE:
            follower.ended(step, well=False)


def _check(check: Any, follower: Follower) -> None:
    follower.checked(check.asset_key.to_user_string(), check.check_name, check.description or "", passed=check.passed,
                     blocking=check.blocking)
