"""``python -m cai_assets.train JOB.json``: one training run in this process, whose exit frees all memory.

Exits 0 when ``final`` and ``metrics.json`` are written. Otherwise ``error.txt`` and the last line on stderr say why.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn, assert_never

from pydantic import ValidationError

from cai_assets.store.files import write_atomic
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Reporter, open_reporter
from cai_assets.train.sampler import choose

PR_SET_PDEATHSIG = 1


def main(arguments: list[str], *, own_process: bool = False) -> int:
    """Run the job file named by the only argument; return the exit status. ``own_process``: nothing else runs here."""
    if len(arguments) != 1:
        return _fail("usage: python -m cai_assets.train JOB.json")
    job: Job | None = None
    try:
        job = Job.model_validate_json(Path(arguments[0]).read_bytes())
        if job.settings["processes"] > 1 and "RANK" not in os.environ:
            become_launcher(job.settings["processes"], arguments[0])
        line = choose(job) if own_process else ""
        with open_reporter(main_process=os.environ.get("RANK", "0") == "0") as reporter:
            if line:
                reporter.say(line)
            run_job(job, reporter)
    except (TrainingProblem, ValidationError, OSError) as e:
        return _fail(" ".join(str(e).split()), job)
    except Exception as e:  # every failure ends with one clear line
        traceback.print_exc()
        return _fail(f"{type(e).__name__}: {' '.join(str(e).split())}", job)
    return 0


def run_job(job: Job, reporter: Reporter) -> None:
    """Run one job in this process."""
    from cai_assets.train.run import quiet

    quiet()
    job.work.mkdir(parents=True, exist_ok=True)
    match job.kind:
        case "texts" | "supervised":
            from cai_assets.train.supervised import run
        case "reward":
            from cai_assets.train.reward import run
        case "reinforcement":
            from cai_assets.train.reinforcement import run
        case _:
            assert_never(job.kind)
    run(job, reporter)


def become_launcher(processes: int, job: str) -> NoReturn:
    """Replace this process with accelerate's launcher, which starts this command ``processes`` times, one per GPU.

    The launcher keeps this process's id and group and its tie to the parent: it ends as a single trainer would, and
    each of its own children is tied to it. Raise TrainingProblem where there are too few GPUs.
    """
    import torch

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise TrainingProblem(f"processes={processes}, but there are {gpus} GPUs: each process needs one")
    os.environ["ACCELERATE_USE_CPU"] = "false" if gpus else "true"
    command = [sys.executable, "-m", *launcher(processes, on_gpus=bool(gpus)), "-m", "cai_assets.train", job]
    os.execv(sys.executable, command)  # noqa: S606 - ours


def launcher(processes: int, *, on_gpus: bool) -> list[str]:
    """The module that starts so many processes on this machine, and its arguments."""
    if not on_gpus:  # accelerate would start CPU processes through MPI
        return ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1",
            "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def _fail(reason: str, job: Job | None = None) -> int:
    print(f"training failed: {reason}", file=sys.stderr, flush=True)
    if job is not None:  # in any of several processes: the launcher stops the others as soon as one fails
        write_atomic(job.error, reason.encode())
    return 1


def _end_with_parent() -> None:
    """Ask the system to kill this process when the one that started it dies, however it dies.

    Otherwise a killed run would leave behind a trainer that writes into the same folder as the next run's.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request was made
            sys.exit(1)


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(main(sys.argv[1:], own_process=True))
