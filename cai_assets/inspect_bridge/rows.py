"""Model calls from many coroutines, answered in batches by one thread that owns the engines.

Guarantees: every call gets its own row or the error that lost it; an engine is used by one thread only; calls that wait
while a batch runs are sent together in the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import anyio

from cai_assets.assets import AGAIN, BASE, TRAINED, WITHOUT_VERSION, partition_of
from cai_assets.engines.protocol import Call, Engine
from cai_assets.errors import CaiError
from cai_assets.evals.judge import STEP as JUDGE
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import checkpoint_of
from cai_assets.settings import Settings, load_settings
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.prompts import load_prompts
from cai_assets.steps.respond import RESPOND
from cai_assets.store.records import RecordMissing
from cai_assets.store.tables import Held, Table

GRADER = "judge"
GATHERING = 0.05  # seconds to wait for calls that start together


class UnknownPolicy(CaiError, LookupError):
    """No model has that name. The message lists valid names."""


@cache
def _opened(settings: str) -> tuple[Project, ThreadPoolExecutor]:
    return Project(Settings.model_validate_json(settings)), ThreadPoolExecutor(1, "cai-engine")


def opened(settings: Mapping[str, Any]) -> tuple[Project, ThreadPoolExecutor]:
    """The project with these settings over those of file and environment, and the thread that owns its engines.

    One of each per process for equal settings.
    """
    return _opened(load_settings(settings).model_dump_json())


def engine_of(project: Project, policy: str) -> Engine:
    """The engine of ``POLICY@VERSION``, ``base``, ``judge``, one of ``evaluation.others``, or a checkpoint's key or
    folder. Raise UnknownPolicy."""
    settings = project.settings
    if policy in (BASE, AGAIN, GRADER):
        return project.engines.open(settings.models.role("judge" if policy == GRADER else "policy"))
    if policy in settings.evaluation.others:
        return project.engines.open(settings.evaluation.others[policy])
    return project.engines.open_checkpoint(_checkpoint(project, policy))


def _checkpoint(project: Project, policy: str) -> Path:
    if Path(policy).is_dir():
        return Path(policy)
    name, at, version = policy.partition("@")
    if name in TRAINED and (at or name in WITHOUT_VERSION):
        try:
            record = project.records.latest(name, partition_of(name, version))
        except RecordMissing as e:
            raise UnknownPolicy(str(e)) from None
        return checkpoint_of(project, record).path
    folders = project.checkpoints.starting_with(policy) if _hex(policy) else []
    if len(folders) == 1:
        return folders[0]
    raise UnknownPolicy(f"no model {policy!r}: give {', '.join(TRAINED)} with @VERSION, {BASE}, one of "
                        "evaluation.others, or a checkpoint's key or folder")


def _hex(text: str) -> bool:
    digits = text.removeprefix("k1:")
    return len(digits) >= 8 and set(digits) <= set("0123456789abcdef")


def trained_prompts(project: Project, version: str | None) -> Table:
    """Prompts with ``split`` and ``messages``, by which cases that were trained on are left out: those of the version;
    without one, or where it was not made, those that the settings name."""
    if version is not None:
        return project.records.stored(project.records.latest("starting_responses", version))
    p = project.settings.prompts
    return Held(load_prompts(p.paths, max_chars=p.max_chars, columns=p.columns).frame)


class _Waiting(NamedTuple):
    call: Call
    done: anyio.Event
    row: list[Row | BaseException]


class Answers:
    """Rows of one model."""

    def __init__(self, settings: Mapping[str, Any], policy: str) -> None:
        self.project, self._thread = opened(settings)
        self._step: Step = JUDGE if policy == GRADER else RESPOND
        self._policy, self._lock, self._waiting = policy, Lock(), list[_Waiting]()
        self._complete = Completer(engine_of(self.project, policy), self.project.store, seed=self.project.settings.seed)

    async def row(self, call: Call) -> Row:
        """The row of one call. Raise the error that lost its whole batch, such as EngineLost."""
        mine = _Waiting(call, anyio.Event(), [])
        with self._lock:
            self._waiting.append(mine)
            leads = len(self._waiting) == 1
        if leads:
            await self._lead()
        await mine.done.wait()
        (row,) = mine.row
        if isinstance(row, BaseException):
            raise row
        return row

    async def _lead(self) -> None:
        """The first call waits a moment for others, and until the thread is free; then all of them are sent."""
        ran: list[tuple[list[_Waiting], list[Row] | Exception]] = []
        try:
            await anyio.sleep(GATHERING)
            await anyio.to_thread.run_sync(self._thread.submit(lambda: ran.append(self._run(self._take()))).result)
        finally:
            for batch, rows in ran or [(self._take(), RuntimeError("the evaluation was stopped"))]:
                for i, waiting in enumerate(batch):
                    waiting.row.append(rows if isinstance(rows, Exception) else rows[i])
                    waiting.done.set()

    def _take(self) -> list[_Waiting]:
        with self._lock:
            batch, self._waiting = self._waiting, []
        return batch

    def _run(self, batch: list[_Waiting]) -> tuple[list[_Waiting], list[Row] | Exception]:
        try:
            return batch, self._complete(self._step, [w.call for w in batch], what=f"inspect: {self._policy}")
        except Exception as e:  # an engine-wide error: each waiting call raises it
            return batch, e
