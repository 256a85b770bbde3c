"""The clock is a made-up one: what moves between two looks is what these tests do, not how fast the machine is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import patience
import psutil
import pytest
from patience import GaveUp, Guard, Watch, processor_seconds, run, until

SPIN = "while True: pass"
SLEEP = "import time; time.sleep(10**6)"


class Clock:
    """Each pause takes as long as a look at what moves, and does one more thing."""

    def __init__(self, pauses: Callable[[int], object]) -> None:
        self.now, self.count, self.pauses = 0.0, 0, pauses

    def sleep(self, seconds: float) -> None:
        self.now += patience.LOOK
        self.count += 1
        self.pauses(self.count)


MadeClock = Callable[..., Clock]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MadeClock:
    def made(pauses: Callable[[int], object] = lambda _: None) -> Clock:
        clock = Clock(pauses)
        monkeypatch.setattr(patience, "LOOK", 0.5)
        monkeypatch.setattr(patience, "sleep", clock.sleep)
        monkeypatch.setattr(patience, "monotonic", lambda: clock.now)
        return clock

    return made


def test_it_waits_as_long_as_a_file_grows(clock: MadeClock, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "log"
    file.parent.mkdir()
    time = clock(lambda n: file.open("a").write("x") if n % 3 == 0 else None)
    assert until(lambda: time.count == 500, Watch(tmp_path), quiet=4 * patience.LOOK)
    assert time.now == 500 * patience.LOOK


def test_it_gives_up_when_nothing_moves_and_says_what_moved_last(clock: MadeClock, tmp_path: Path) -> None:
    time = clock(lambda n: (tmp_path / "log").write_text("x" * n) if n <= 7 else None)
    with pytest.raises(GaveUp, match=r"moved for 50 s; the answer was \[\]; what moved last: .*log \(2 files"):
        until(list, Watch(tmp_path), quiet=50)
    assert time.now == 7 * patience.LOOK + 50 + patience.LOOK


def test_a_server_that_is_not_there_yet_is_waited_for(clock: MadeClock) -> None:
    time = clock()

    def answer() -> str:
        if time.count < 3:
            raise ConnectionRefusedError("nobody listens")
        return "hello"

    assert until(answer) == "hello"
    time.count = -10**6
    with pytest.raises(GaveUp, match="nobody listens"):
        until(answer)


@pytest.mark.parametrize(("code", "moves"), [(SPIN, True), (SLEEP, False)])
def test_work_is_movement_and_sleep_is_not(clock: MadeClock, code: str, moves: bool) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen([sys.executable, "-c", child], start_new_session=True) as process:
        try:
            time = clock(lambda n: work_of(process.pid, 0.1 if moves else 0, since=processor_seconds(process.pid)))
            watch = Watch(processes=[process.pid])
            if moves:
                assert until(lambda: time.count == 4, watch, quiet=patience.LOOK)
            else:
                with pytest.raises(GaveUp):
                    until(lambda: False, watch, quiet=20 * patience.LOOK)
        finally:
            patience.end(process)


def work_of(pid: int, seconds: float, *, since: float) -> None:
    while processor_seconds(pid) - since < seconds:
        os.sched_yield()


def test_a_command_gives_its_output_and_its_errors_apart() -> None:
    done = run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_stuck_command_is_ended_with_all_it_started_and_its_output_is_told(clock: MadeClock, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"""
import os, pathlib, subprocess, sys
sleeper = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print("half way", flush=True)
pathlib.Path("{note}.new").write_text(str(sleeper.pid))
os.rename("{note}.new", "{note}")
sleeper.wait()
"""
    clock(lambda _: [os.sched_yield() for _ in iter(note.exists, True)])
    with pytest.raises(GaveUp, match="half way"):
        run([sys.executable, "-c", code], quiet=10 * patience.LOOK)
    while psutil.pid_exists(pid := int(note.read_text())) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        os.sched_yield()


def test_a_test_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(patience, "LOOK", 0.05)
    monkeypatch.setattr(patience, "BUSY", float("inf"))
    with pytest.raises(GaveUp, match=r"test_a_test_that_hangs_is_stopped .*hangs: no processor time"), Guard(quiet=0.1):
        threading.Event().wait()
    assert "Current thread" in capfd.readouterr().err
