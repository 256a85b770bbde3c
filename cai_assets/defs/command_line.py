"""Runs of the command line, as other processes see them: whether they are alive, and how to end them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import MAX_RETRIES_TAG

from cai_assets.store.files import if_unlocked, locked

ENDING = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}
NO_RETRY = {MAX_RETRIES_TAG: "0"}
LOOK_SECONDS = 1.0
DIED = "the process of the command line that ran it has died; run the same command again, and it goes on from there"


class Launcher(dg.DefaultRunLauncher):
    """Launches runs as Dagster does by default, and can also end runs of the command line and see that one has died.

    Named in ``dagster.yaml``. Without it the UI ends such a run all the same, and says that it could not.
    """

    def terminate(self, run_id: str) -> bool:
        """Ask the run to end. One of the command line looks for that once in a while."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or not _sign(self._instance, run_id).exists():
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Failed if the process of the command line has died; whoever else runs it is not looked at."""
        sign = _sign(self._instance, run.run_id)
        if not sign.exists():
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        with if_unlocked(sign) as dead:
            if not dead:
                return CheckRunHealthResult(WorkerStatus.RUNNING)
        sign.unlink(missing_ok=True)
        self._instance.add_run_tags(run.run_id, NO_RETRY)  # by whoever sits at the terminal, not behind their back
        return CheckRunHealthResult(WorkerStatus.FAILED, DIED)


def _sign(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / "running" / run_id


@contextmanager
def alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[None]:
    """Hold the sign of a living run."""
    if not instance.is_persistent:
        yield
        return
    sign = _sign(instance, run.run_id)
    sign.parent.mkdir(exist_ok=True)
    with locked(sign):
        yield
        sign.unlink(missing_ok=True)


@contextmanager
def ends_when_asked(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[None]:
    """Interrupt this thread, as Ctrl-C does, when the run is terminated in the UI or the terminal is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(instance, run.run_id, done), daemon=True)
    if instance.is_persistent:
        watcher.start()
    before = _ends_with_the_terminal()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        done.set()
        if watcher.is_alive():
            watcher.join()


def _watch(instance: dg.DagsterInstance, run_id: str, done: threading.Event) -> None:
    while not done.wait(LOOK_SECONDS):
        with suppress(Exception):  # a busy database; it is looked at again
            run = instance.get_run_by_id(run_id)
            if run and run.status in ENDING:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return


def _ends_with_the_terminal() -> signal.Handlers:
    """A closed terminal ends the run and its trainer; under nohup, nothing does."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    return before  # type: ignore[return-value]
