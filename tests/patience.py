"""Waiting that no slow machine turns into a failure.

What a test waits for is given up when nothing has moved for long (no file, no output, no processor time), never because
of the time that it has taken; the error then says what moved last.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import Any, TypeVar

import psutil

QUIET = 600.0  # seconds in which nothing moves; on an idle machine, no test is without movement for 20
LOOK = 5.0  # seconds between two looks at what moves
BUSY = 0.1  # of one core, between two looks: a server that waits for work takes less
LAST_CHARACTERS = 2000  # of the output, in an error

T = TypeVar("T")


class GaveUp(AssertionError):
    """Nothing has moved for long; the text says what was seen last."""


class Watch:
    """What may move while a test waits: files under paths, and the processor time of processes and their children."""

    def __init__(self, *paths: Path, processes: Sequence[int] = ()) -> None:
        self.paths, self.processes = paths, processes
        self.last = "nothing"
        self._looked = self._moved = monotonic()
        self._files, self._seconds = self._newest(), self._processor_seconds()

    def quiet(self) -> float:
        """Seconds since something moved."""
        now = monotonic()
        if now - self._looked >= LOOK:
            self._look(now)
        return now - self._moved

    def _look(self, now: float) -> None:
        files, seconds = self._newest(), self._processor_seconds()
        if files != self._files:
            self._moved, self.last = now, f"{files[1]} ({files[0]} files)"
        if abs(seconds - self._seconds) > BUSY * (now - self._looked):  # fewer: a process has ended
            self._moved, self.last = now, f"{seconds:.0f} seconds of processor time"
        self._looked, self._files, self._seconds = now, files, seconds

    def _newest(self) -> tuple[int, str, int, int]:
        """How many files there are, and which changed last, when, and to what size."""
        count, newest = 0, (0, 0, "no file")
        for path in self.paths:
            for file in (path, *path.rglob("*")):
                with suppress(OSError):
                    about = file.stat()
                    count, newest = count + 1, max(newest, (about.st_mtime_ns, about.st_size, str(file)))
        return count, newest[2], newest[0], newest[1]

    def _processor_seconds(self) -> float:
        return sum(processor_seconds(pid) for pid in self.processes)


def processor_seconds(pid: int) -> float:
    """Of a process and all its children, also those that have ended and were waited for."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += sum(each.cpu_times()[:4])
    return total


def until(check: Callable[[], T], watch: Watch | None = None, *, quiet: float = QUIET) -> T:
    """The first true answer. An ``OSError``, such as of a server that is not there yet, is no answer.

    Raises ``GaveUp`` when nothing watched has moved for ``quiet`` seconds; with no ``watch``, since the call.
    """
    watch, pause = watch or Watch(), 0.02
    while True:
        answer: Any
        try:
            answer = check()
        except OSError as error:
            answer, problem = None, repr(error)
        else:
            problem = f"the answer was {answer!r}"
        if answer:
            return answer
        if watch.quiet() > quiet:
            raise GaveUp(f"nothing has moved for {quiet:.0f} s; {problem}; what moved last: {watch.last}")
        sleep(pause)
        pause = min(0.5, pause * 1.5)


def run(command: Sequence[str], *paths: Path, quiet: float = QUIET, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end; its output and errors apart. Its files under ``paths``, its output and its work are watched.

    Raises ``GaveUp`` with the end of both when it is stuck; then, as on any error, all that it started is ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, start_new_session=True, **options)
        try:
            until(lambda: process.poll() is not None, Watch(Path(folder), *paths, processes=[process.pid]), quiet=quiet)
        except GaveUp as problem:
            said = "\n".join(p.read_text(errors="replace")[-LAST_CHARACTERS:] for p in (out, err))
            raise GaveUp(f"{' '.join(command)}: {problem}\n{said}") from None
        finally:
            end(process)
        return subprocess.CompletedProcess(command, process.returncode, out.read_text(), err.read_text())


def end(process: subprocess.Popen[bytes], *, grace: float = 20.0) -> None:
    """End a process that leads a group, and all it started, in whatever group; politely first, if it still runs."""
    started: list[psutil.Process] = []
    with suppress(psutil.Error):
        started = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in started:
        with suppress(psutil.Error):
            each.kill()
    process.wait()


class Guard:
    """Stops a test that hangs: this process and its children take no processor time for long.

    The test gets ``GaveUp``, and every thread's stack goes to standard error. If it cannot even take that, the whole
    process ends. To be entered in the main thread.
    """

    def __init__(self, *, quiet: float = 1.5 * QUIET) -> None:
        self.quiet, self.stopped = quiet, ""
        self._done, self._thread = threading.Event(), threading.Thread(target=self._guard, daemon=True)

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._give_up)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        signal.signal(signal.SIGALRM, self._before)

    def _guard(self) -> None:
        watch = Watch(processes=[os.getpid()])
        while not self._done.wait(LOOK):
            if watch.quiet() > self.quiet:
                self._stop(os.environ.get("PYTEST_CURRENT_TEST", "no test"))
                watch = Watch(processes=[os.getpid()])

    def _stop(self, test: str) -> None:
        faulthandler.dump_traceback(sys.__stderr__)
        if test == self.stopped:
            os._exit(70)
        self.stopped = test
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        raise GaveUp(f"{self.stopped} hangs: no processor time for {self.quiet:.0f} s")
