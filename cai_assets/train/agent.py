"""One machine's part in a training on several: ``python -m cai_assets.train.agent HOST:PORT``.

An agent of PyTorch (torchrun's) starts the processes of this machine and ends them together. Beside it a thread gives
a sign of life, and looks whether to stop: because another machine failed, or because who watches over all of them
(``nodes.py``) is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cai_assets.train.processes import end_with_parent

BEAT = 1.0  # seconds between two signs of life
STORE_SECONDS = 30.0  # after which a silent store is gone
RENDEZVOUS_SECONDS = 120
SHUTDOWN_SECONDS = 10  # which processes have to end by themselves
NOT_NEEDED = 3  # exit status: all machines that the training needs are there


class Task(BaseModel):
    """What an agent does. ``job``: the file; ``processes``: of each machine; ``attempt``: of this training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Path
    nodes: int
    processes: int
    attempt: str


class Failure(BaseModel):
    """Why a machine's part ended. ``rank``: of the process that failed first, if it was one; ``signal``: that killed
    it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: str
    rank: int | None = None
    signal: int | None = None


def endpoint(address: str) -> tuple[str, int]:
    """Host and port. Raise ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not HOST:PORT: give what the run says, such as node1:29400")
    return host.strip("[]"), int(port)


def written(host: str, port: int) -> str:
    """What ``endpoint`` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def node_name() -> str:
    """What this machine is called in messages."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def connect(host: str, port: int) -> Any:
    """A client of the store."""
    from torch.distributed import TCPStore

    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=STORE_SECONDS))


def main(address: str) -> int:
    """Take part in one training, the next that is at this address. Return the exit status."""
    host, port = endpoint(address)
    mine = _wait_for(host, port)
    store = connect(host, port)
    place = store.add("places", 1) - 1
    if place >= int(store.get("nodes")):
        return NOT_NEEDED
    store.set(f"name/{place}", node_name())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signs = Signs(connect(host, port), place)
    signs.start()
    failure: Failure | None = Failure(why="its agent was ended")
    try:
        task = _task(store, place, signs)
        failure = _run(task, place, mine, _meeting_point(store, place, mine)) if task else None
    except (OSError, RuntimeError, ValueError) as e:  # of the store, or of the rendezvous
        failure = Failure(why=f"{type(e).__name__}: {' '.join(str(e).split())}")
    finally:
        signs.ended.set()
        if signs.why:
            print(f"this machine's part in the training was ended: {signs.why}", file=sys.stderr, flush=True)
        with suppress(Exception):  # the store is gone, too
            if not signs.why:
                store.set(f"failed/{place}" if failure else f"done/{place}",
                          failure.model_dump_json() if failure else "")
            store.set(f"left/{place}", "")
    return 1 if failure or signs.why else 0


def _wait_for(host: str, port: int) -> str:
    """Until somebody listens there. Return the address under which this machine reaches it."""
    while True:
        with suppress(OSError), socket.create_connection((host, port), STORE_SECONDS) as connection:
            address: str = connection.getsockname()[0]
            return address
        time.sleep(BEAT)


def _task(store: Any, place: int, signs: Signs) -> Task | None:
    """What to do, once all are there; None if this is called off before."""
    while not store.check(["task"]):
        if signs.why:
            return None
        time.sleep(BEAT / 4)
    task = Task.model_validate_json(store.get("task"))
    if not task.job.is_file():
        raise OSError(f"there is no {task.job} here: the data root (in an object store: the folder of copies) must be "
                      "on a file system that all nodes mount at the same path")
    import torch

    gpus = torch.cuda.device_count()
    if 0 < gpus < task.processes:
        raise ValueError(f"{task.processes} processes run on each node, and here are {gpus} GPUs: each needs one")
    os.environ["ACCELERATE_USE_CPU"] = "false" if gpus else "true"
    if task.processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    return task


def _meeting_point(store: Any, place: int, mine: str) -> str:
    """Where the first machine's agent listens for the others."""
    if place == 0:
        with socket.create_server((mine, 0)) as free:
            port = free.getsockname()[1]
        store.set("meet", written(mine, port))
    found: str = store.get("meet").decode()
    return found


def _run(task: Task, place: int, mine: str, meet: str) -> Failure | None:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=task.nodes, max_nodes=task.nodes, nproc_per_node=task.processes, run_id=task.attempt,
        rdzv_backend="static", rdzv_endpoint=meet, rdzv_configs={"rank": place, "timeout": RENDEZVOUS_SECONDS},
        max_restarts=0, local_addr=mine, shutdown_timeout=SHUTDOWN_SECONDS)
    try:
        elastic_launch(config, sys.executable)("-m", "cai_assets.train", str(task.job))
    except ChildFailedError as e:
        rank, failed = e.get_first_failure()
        killed = -failed.exitcode if failed.exitcode < 0 else None
        how = f"was killed by signal {killed}" if killed else f"ended with exit code {failed.exitcode}"
        return Failure(why=how, rank=rank, signal=killed)
    except SignalException as e:
        return Failure(why=f"its agent was ended by signal {e.sigval.value}")
    return None


class Signs(threading.Thread):
    """Signs of life. ``why``: this machine stops although it has not failed itself."""

    def __init__(self, store: Any, place: int) -> None:
        super().__init__(daemon=True)
        self.store, self.place, self.why, self.ended = store, place, "", threading.Event()

    def run(self) -> None:
        while not self.ended.wait(BEAT):
            try:
                self.store.add(f"beat/{self.place}", 1)
                if self.store.check(["stop"]):
                    self.why = "another node failed"
            except Exception as e:  # whatever the store raises when it is gone
                self.why = f"who started it is gone ({type(e).__name__})"
            if self.why:
                return self._end()

    def _end(self) -> None:
        """As from outside, and if that takes too long at once: processes end with their agent."""
        os.kill(os.getpid(), signal.SIGTERM)
        if not self.ended.wait(2 * SHUTDOWN_SECONDS):
            os._exit(1)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1]))
