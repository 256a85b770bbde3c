"""``python -m cai_assets.train JOB.json``: one training run in this process, whose exit frees all memory.

Exits 0 when ``final`` and ``metrics.json`` are written. Otherwise ``error.txt`` and the last line on stderr say why.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn, assert_never

from pydantic import ValidationError

from cai_assets.store.files import write_atomic
from cai_assets.train.agent import node_name
from cai_assets.train.external import is_external, run_external
from cai_assets.train.job import Job
from cai_assets.train.nodes import LOST, NodeLost, train_on_nodes
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.processes import end_together, end_with_parent, is_first, is_worker, on_several_nodes
from cai_assets.train.progress import Reporter, open_reporter
from cai_assets.train.sampler import choose


def main(arguments: list[str], *, own_process: bool = False) -> int:
    """Run the job file named by the only argument; return the exit status. ``own_process``: nothing else runs here."""
    if len(arguments) != 1:
        return _fail("usage: python -m cai_assets.train JOB.json")
    job: Job | None = None
    try:
        job = Job.model_validate_json(Path(arguments[0]).read_bytes())
        if not is_worker():
            job.error.unlink(missing_ok=True)
        if is_worker() or not _elsewhere(job, Path(arguments[0])):
            _here(job, own_process=own_process)
    except NodeLost as e:
        return _fail(str(e), job, LOST)
    except (TrainingProblem, ValidationError, OSError) as e:
        return _fail(" ".join(str(e).split()), job)
    except Exception as e:  # every failure ends with one clear line
        traceback.print_exc()
        return _fail(f"{type(e).__name__}: {' '.join(str(e).split())}", job)
    return 0


def _elsewhere(job: Job, file: Path) -> bool:
    """Have other processes run the job, where it is for several, or for another program."""
    run = train_on_nodes if job.nodes is not None else run_external if is_external(job) else None
    if run is not None:
        with open_reporter(main_process=True) as reporter:
            run(job, file, reporter.say)
    elif job.settings["processes"] > 1:
        become_launcher(job.settings["processes"], str(file))
    return run is not None


def _here(job: Job, *, own_process: bool) -> None:
    line = choose(job) if own_process else ""
    with open_reporter(main_process=is_first(), into=job.said if on_several_nodes() else None) as reporter:
        if line:
            reporter.say(line)
        run_job(job, reporter)
    end_together()


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


def _fail(reason: str, job: Job | None = None, status: int = 1) -> int:
    if on_several_nodes():
        reason = f"rank {os.environ['RANK']} on {node_name()}: {reason}"
    print(f"training failed: {reason}", file=sys.stderr, flush=True)
    # Of several processes the first to fail says why: in the others only what it had to do with them fails.
    if job is not None and not (is_worker() and job.error.exists()):
        write_atomic(job.error, reason.encode())
    return status


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1:], own_process=True))
