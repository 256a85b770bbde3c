"""Reinforcement learning by a program of another environment (``rl.algorithm: external``): verl, OpenRLHF, or any.

The contract is the one of ``job.py``, and docs/external.md says it to whoever writes such a program: it gets the path
of ``job.json`` as its last argument, leaves ``final`` in the work folder, and exits 0. What it leaves is checked
(``returned.py``) before it is published. All that it has started ends with it, however it ends.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from cai_assets.settings import Reinforcement, Settings
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.processes import environment_of_another
from cai_assets.train.progress import Say
from cai_assets.train.returned import take_in

PR_SET_CHILD_SUBREAPER = 36
NOT_ITS_OWN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of this environment
GRACE_SECONDS = 5.0
TICK = 0.5
TAIL_LINES, TAIL_CHARACTERS = 5, 600
SHOWN = ("reward", "kl", "loss")


def refuse_missing_command(settings: Settings) -> None:
    """Raise TrainingProblem if the program that is set is not on this machine."""
    command = settings.rl.external.command
    if not settings.rl.here and shutil.which(command[0]) is None:
        raise TrainingProblem(f"rl.external.command: there is no program {command[0]!r} here: install it, or name it "
                              "by its path")


def is_external(job: Job) -> bool:
    """Whether another program runs the job."""
    return job.kind == "reinforcement" and not Reinforcement.model_validate(job.settings).here


def run_external(job: Job, file: Path, say: Say) -> None:
    """Run the job's command and take in what it leaves. Raise TrainingProblem."""
    external = Reinforcement.model_validate(job.settings).external
    job.work.mkdir(parents=True, exist_ok=True)
    for left in (job.final, job.metrics, job.curves):
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)
    log = job.work / "external.log"
    say(f"{external.command[0]} ({external.version}) trains; its output is in this step's stderr and in {log}")
    with log.open("wb") as output, _all_ended():
        code = _wait(_start([*external.command, str(file.resolve())], output), job, log, say)
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise TrainingProblem(f"rl.external.command {how}{_tail(log)}")
    take_in(job, say)


def _start(command: list[str], output: Any) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in environment_of_another().items() if name not in NOT_ITS_OWN}
    try:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT)
    except OSError as e:
        raise TrainingProblem(f"rl.external.command does not start ({e.strerror}: {command[0]})") from None


def _wait(process: subprocess.Popen[bytes], job: Job, log: Path, say: Say) -> int:
    """Until it ends, pass on what it prints, and say how far it is."""
    step, code = 0, None
    with log.open("rb") as printed:
        while code is None:
            try:
                code = process.wait(TICK)
            except subprocess.TimeoutExpired:
                code = None
            _pass_on(printed.read())
            step = _progress(job.curves, step, say)
    return code


def _pass_on(printed: bytes) -> None:
    sys.stderr.write(printed.decode("utf-8", errors="replace"))
    sys.stderr.flush()


def _progress(curves: Path, told: int, say: Say) -> int:
    """Say the newest step of the curves if it is new; return it. What is no row yet is checked at the end."""
    if not curves.is_file():
        return told
    lines = curves.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    try:
        row = json.loads(lines[-1]) if lines else {}
        step = int(row.get("step", 0))
    except (ValueError, TypeError, AttributeError):
        return told
    if step > told:
        say(" · ".join([f"step {step}", *(f"{name} {row[name]:.3g}" for name in SHOWN
                                          if isinstance(row.get(name), int | float))]))
    return max(step, told)


def _tail(log: Path) -> str:
    """The last lines that it printed, as one."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    last = " | ".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]
    return f"; its last lines: {last}" if lines else "; it printed nothing"


@contextmanager
def _all_ended() -> Iterator[None]:
    """End whatever the block has started, in sessions of its own too, also when this process is told to end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # children of a child that has died become ours
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_all()
        signal.signal(signal.SIGTERM, before)


def _ended(*_: Any) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _end_all() -> None:
    import psutil

    me = psutil.Process()
    for end in ("terminate", "kill"):
        children = me.children(recursive=True)
        for child in children:
            try:
                getattr(child, end)()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(children, timeout=GRACE_SECONDS)

