"""A training on several machines: who watches over the agents of all of them (``agent.py``).

Agents come to a store of PyTorch (TCPStore) that this process opens: Ray starts them where it runs the models, else
one is started here and the others by ``cai join``. Each gives signs of life. When one fails or gives no sign any more,
all others end, and one line says which: a machine that is lost rather than the broken connections to it, a process
that was killed rather than those that then waited for it in vain.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from cai_assets.engines.models import EngineLost
from cai_assets.engines.ray_engine import connected
from cai_assets.settings import Engine, Nodes, Settings
from cai_assets.train.agent import SHUTDOWN_SECONDS, STORE_SECONDS, Failure, Task, written
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.processes import environment_of_another
from cai_assets.train.progress import Say

TICK = 0.25
GRACE_SECONDS = SHUTDOWN_SECONDS + 5.0
LOST = 75  # exit status (EX_TEMPFAIL): the same training may be tried again


class NodeLost(TrainingProblem):
    """A machine is gone. What was saved is kept, and the training can go on from there."""


def refuse_too_few(settings: Settings) -> None:
    """Raise TrainingProblem if the job of Slurm that this runs in has fewer nodes than trainings need."""
    given, needed = os.environ.get("SLURM_JOB_NUM_NODES", ""), settings.train.nodes
    if needed > 1 and not settings.engine.replicas and given.isdigit() and int(given) < needed:
        raise TrainingProblem(f"train.nodes={needed}, and this job of Slurm has {given}: submit it with --nodes="
                              f"{needed}, or lower train.nodes")


def train_on_nodes(job: Job, file: Path, say: Say) -> None:
    """Run a job on ``job.nodes`` machines. Raise NodeLost, or TrainingProblem, when any part of it has failed."""
    assert job.nodes is not None  # noqa: S101 - the caller has looked
    address = job.nodes.address or own_address()
    job.said.unlink(missing_ok=True)
    with _opened(address, job.nodes.port) as store:
        store.set("nodes", str(job.nodes.nodes))
        with _agents(job, written(address, job.nodes.port), say) as how:
            _Watch(job, job.nodes, store, say, how).train(file)


def own_address() -> str:
    """That of the interface by which this machine reaches others."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing (an address for documentation, RFC 5737)
        address: str = probe.getsockname()[0]
        return address
    return socket.gethostname()


@contextmanager
def _opened(address: str, port: int) -> Iterator[Any]:
    """The store, which listens at this address alone."""
    from torch.distributed import TCPStore

    try:
        listening = socket.create_server((address, port), family=socket.getaddrinfo(address, port)[0][0])
    except OSError as e:
        raise TrainingProblem(f"train.address={address} train.port={port}: {e.strerror or e}: set others, or wait for "
                              "the training that listens there") from None
    yield TCPStore(address, port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=STORE_SECONDS),
                   master_listen_fd=listening.detach())


def _agents(job: Job, at: str, say: Say) -> AbstractContextManager[str]:
    """Start those that are ours to start. Gives what to do if some do not come."""
    return _by_ray(job, job.engine, at) if job.engine is not None else _by_hand(job, at, say)


@contextmanager
def _by_hand(job: Job, at: str, say: Say) -> Iterator[str]:
    """One here; on the others someone runs a command."""
    assert job.nodes is not None  # noqa: S101
    command = f"cai join {at}"
    say(f"waits for the other {job.nodes.nodes - 1} of {job.nodes.nodes} nodes: run '{command}' on each of them")
    mine = subprocess.Popen([sys.executable, "-m", "cai_assets.train.agent", at], env=environment_of_another())
    try:
        yield f"run '{command}' on each of the others, in the same environment"
    finally:
        _ended(mine)


def _ended(agent: subprocess.Popen[bytes]) -> None:
    try:
        agent.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        agent.kill()  # and its processes with it
        agent.wait()


@contextmanager
def _by_ray(job: Job, engine: Engine, at: str) -> Iterator[str]:
    """A task of Ray on each node, which runs an agent."""
    assert job.nodes is not None  # noqa: S101
    try:
        ray = connected(engine)
    except EngineLost as e:
        raise TrainingProblem(str(e)) from None
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    nodes = job.nodes.nodes
    gpus = job.settings["processes"] // nodes if ray.cluster_resources().get("GPU") else 0
    each = {"CPU": 1.0, **({"GPU": float(gpus)} if gpus else {})}
    group = placement_group([each] * nodes, strategy="STRICT_SPREAD")
    if not group.wait(job.nodes.wait):
        raise TrainingProblem(f"the Ray cluster gave no {nodes} nodes with {gpus} free GPUs each within "
                              f"{job.nodes.wait:g} s (train.wait): add nodes, or lower train.nodes")
    agent = ray.remote(_agent_here)
    places = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i) for i in range(nodes)]
    tasks = [agent.options(num_cpus=1, num_gpus=gpus, max_retries=0, scheduling_strategy=place).remote(at)
             for place in places]
    try:
        yield "the Ray cluster may be too full to start all of them; see its logs"
    finally:
        ray.wait(tasks, num_returns=nodes, timeout=GRACE_SECONDS)
        ray.shutdown()


def _agent_here(at: str) -> int:
    """What a task of Ray runs."""
    return subprocess.run([sys.executable, "-m", "cai_assets.train.agent", at], check=False).returncode


class _Watch:
    """Over the agents of one training."""

    def __init__(self, job: Job, given: Nodes, store: Any, say: Say, how: str) -> None:
        self.job, self.given, self.store, self.say, self.how = job, given, store, say, how
        self.each = job.settings["processes"] // given.nodes
        self.beats: dict[int, tuple[int, float]] = {}  # of each place: how many, and when the last came
        self.failed: dict[int, Failure] = {}
        self.done: set[int] = set()
        self.told = 0  # lines of the first process that were passed on

    def train(self, file: Path) -> None:
        try:
            self._gather()
            task = Task(job=file.resolve(), nodes=self.given.nodes, processes=self.each, attempt=uuid.uuid4().hex)
            self.store.set("task", task.model_dump_json())
            while len(self.done) < self.given.nodes:
                self._look()
                if self.failed:
                    self._say_why()
                time.sleep(TICK)
            self._pass_on()
        finally:
            self.store.set("stop", "")
            self._wait_until_left()

    def _gather(self) -> None:
        deadline = time.monotonic() + self.given.wait
        while len(self.beats) < self.given.nodes:
            self._look()
            if time.monotonic() > deadline:
                raise TrainingProblem(f"{len(self.beats)} of {self.given.nodes} nodes came within {self.given.wait:g} s"
                                      f" (train.wait): {self.how}")
            time.sleep(TICK)
        self.say("trains on " + ", ".join(map(self._name, sorted(self.beats))))

    def _look(self) -> None:
        """Take in what there is, and raise NodeLost for a machine of which there is no sign any more."""
        self._pass_on()
        now = time.monotonic()
        for place in range(min(self.store.add("places", 0), self.given.nodes)):
            count = self.store.add(f"beat/{place}", 0)
            if place not in self.beats or self.beats[place][0] != count:
                self.beats[place] = count, now
            if place not in self.done and self.store.check([f"done/{place}"]):
                self.done.add(place)
            if place not in self.failed and self.store.check([f"failed/{place}"]):
                self.failed[place] = Failure.model_validate_json(self.store.get(f"failed/{place}"))
        lost = [place for place in self._running() if now - self.beats[place][1] > self.given.patience]
        if lost:
            raise NodeLost("; ".join(f"{self._name(place)} with {self._ranks(place)} is lost: no sign of it for "
                                     f"{self.given.patience:g} s (train.patience)" for place in lost))

    def _running(self) -> list[int]:
        return [place for place in self.beats if place not in self.done and place not in self.failed]

    def _say_why(self) -> None:
        """Raise what all others end with, once it is known that nobody else was lost or killed before."""
        before = {place: self.beats[place][0] for place in self._running()}
        while any(self.beats[place][0] < count + 2 for place, count in before.items() if place in self._running()):
            time.sleep(TICK)
            self._look()
        killed = [place for place, failure in self.failed.items() if failure.signal]
        if not killed and self.job.error.is_file():
            raise TrainingProblem(self.job.error.read_text(encoding="utf-8"))  # its rank and node wrote it
        place = min(killed or self.failed)
        failure = self.failed[place]
        rank = self._ranks(place) if failure.rank is None else f"rank {failure.rank}"
        hint = " (9 is often the system running out of memory)" if failure.signal == 9 else ""
        raise TrainingProblem(f"{rank} on {self._name(place)} {failure.why}{hint}" if failure.rank is not None else
                              f"{self._name(place)} with {rank}: {failure.why}")

    def _wait_until_left(self) -> None:
        """A process that goes on would write into the folder of the next try."""
        deadline = time.monotonic() + GRACE_SECONDS
        here = [place for place, (_, seen) in self.beats.items() if time.monotonic() - seen < self.given.patience]
        while time.monotonic() < deadline and not all(self.store.check([f"left/{place}"]) for place in here):
            time.sleep(TICK)

    def _pass_on(self) -> None:
        """What the first process said, wherever it is."""
        if self.job.said.is_file():
            lines = self.job.said.read_text(encoding="utf-8").split("\n")[:-1]
            for line in lines[self.told:]:
                self.say(line)
            self.told = len(lines)

    def _name(self, place: int) -> str:
        key = f"name/{place}"
        name = self.store.get(key).decode() if self.store.check([key]) else "unnamed"
        return f"node {place + 1} of {self.given.nodes} ({name})"

    def _ranks(self, place: int) -> str:
        first, last = place * self.each, (place + 1) * self.each - 1
        return f"rank {first}" if first == last else f"ranks {first} to {last}"

