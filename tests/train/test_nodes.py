"""Trainings on two nodes: two real agents of PyTorch on loopback, and on a real Ray cluster, which loses one."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import each_training  # noqa: E402
from patience import until  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tiny_models import make_job, supervised_data  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from cai_assets.cli import app  # noqa: E402
from cai_assets.settings import Engine, Nodes, SettingsError, load_settings  # noqa: E402
from cai_assets.settings.run_config import by_own_hand  # noqa: E402
from cai_assets.train import nodes  # noqa: E402
from cai_assets.train.agent import Failure, connect  # noqa: E402
from cai_assets.train.choice import room  # noqa: E402
from cai_assets.train.identity import recipe  # noqa: E402
from cai_assets.train.job import Job  # noqa: E402
from cai_assets.train.nodes import LOST, NodeLost, refuse_too_few  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.progress import Curves  # noqa: E402

ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
STEPS, SAVED = 60, 10
SMALL = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def job_of(folder: Path, base: Path, patience: float = 8, **more: Any) -> Job:
    given = Nodes(nodes=2, address="127.0.0.1", port=free_port(), patience=patience)
    job = make_job(folder, "supervised", base, supervised_data(16), **{
        "processes": 2, "batch_size": 4, "learning_rate": 1e-3, "epochs": STEPS / 2, "save_every": SAVED} | more)
    return job.model_copy(update={"nodes": given})


def started(job: Job, *command: str, **environment: str) -> subprocess.Popen[str]:
    file = job.work.parent / "job.json"
    file.write_text(job.model_dump_json())
    return subprocess.Popen([sys.executable, "-m", *(command or ("cai_assets.train", str(file)))], text=True,
                            stderr=subprocess.PIPE, env={**os.environ, **ALONE, **environment})


@contextmanager
def second(job: Job, *command: str) -> Iterator[subprocess.Popen[str]]:
    """The other node's agent, or the command that runs it."""
    assert job.nodes
    at = f"127.0.0.1:{job.nodes.port}"
    agent = started(job, *(command or ("cai_assets.train.agent",)), at, SLURMD_NODENAME="node-b")
    try:
        yield agent
    finally:
        agent.kill()
        agent.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate()[1]
    return process.returncode, said


def trained(job: Job) -> str:
    with second(job, "cai_assets.cli", "join", "--once") as other:
        code, said = ended(started(job, SLURMD_NODENAME="node-a"))
        assert (code, other.wait()) == (0, 0), said
    return said


def lost(job: Job) -> str:
    """Its second agent is killed after the first saved state."""
    with second(job) as agent:
        run = started(job, SLURMD_NODENAME="node-a")
        until(lambda: run.poll() is not None or [*job.state.glob("checkpoint-*/complete.json")])
        agent.send_signal(signal.SIGKILL)
        code, said = ended(run)
    assert code == LOST, said
    return said


def test_two_agents_train_one_model(base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base)
    said = trained(job)
    assert re.search(r"trains on node 1 of 2 \(node-.\), node 2 of 2 \(node-.\)", said)
    assert said.count(f"step {STEPS}/{STEPS}") == 1
    metrics = json.loads(job.metrics.read_text())
    assert (metrics["steps"], metrics["resumed_from"]) == (STEPS, 0)
    whole, before = (load_file(folder / "model.safetensors") for folder in (job.final, base))
    assert {name: t.shape for name, t in whole.items()} == {name: t.shape for name, t in before.items()}
    assert any((whole[name] - before[name]).abs().max() > 0 for name in whole)


@pytest.mark.long
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
@pytest.mark.parametrize("training", each_training.TRAININGS)
def test_two_agents_train_as_two_processes_of_one_machine_do(
    training: str, sharding: str, base: Path, scorer: Path, tmp_path: Path
) -> None:
    here, there = (each_training.job_of(tmp_path / name, training, base, scorer, 2, sharding, save_every=100)
                   for name in ("here", "there"))
    assert ended(started(here))[0] == 0
    there = there.model_copy(update={"nodes": Nodes(nodes=2, address="127.0.0.1", port=free_port(), patience=60)})
    trained(there)
    losses = [[row["loss"] for row in Curves(job.curves).rows()] for job in (here, there)]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    one, two = (load_file(job.final / "model.safetensors") for job in (here, there))
    assert {name: t.shape for name, t in one.items()} == {name: t.shape for name, t in two.items()}
    assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)


@pytest.mark.long
@pytest.mark.fault("a node of a training on two is lost")
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_a_lost_node_ends_the_other_with_one_line_and_what_goes_on_becomes_what_an_undisturbed_training_does(
    sharding: str, base: Path, tmp_path: Path
) -> None:
    straight, disturbed = (job_of(tmp_path / name, base, sharding=sharding) for name in ("straight", "disturbed"))
    trained(straight)
    said, why = lost(disturbed), disturbed.error.read_text()
    assert re.fullmatch(r"node \d of 2 \(node-b\) with rank \d is lost: no sign of it for 8 s \(train\.patience\)", why)
    assert said.count(f"training failed: {why}\n") == 1
    assert not disturbed.final.exists()
    trained(disturbed)
    assert SAVED <= json.loads(disturbed.metrics.read_text())["resumed_from"] < STEPS
    one, two = (load_file(job.final / "model.safetensors") for job in (straight, disturbed))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


@pytest.mark.long
def test_a_killed_process_and_one_that_refuses_are_named_with_rank_and_node(base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path / "killed", base)
    with second(job) as agent:
        run = started(job, SLURMD_NODENAME="node-a")
        until(lambda: run.poll() is not None or [*job.state.glob("checkpoint-*/complete.json")])
        (worker,) = psutil.Process(agent.pid).children()
        worker.kill()
        code, said = ended(run)
        assert (code, agent.wait() != 0) == (1, True), said
    assert re.fullmatch(r"rank \d on node \d of 2 \(node-b\) was killed by signal 9 \(9 is often .*\)",
                        job.error.read_text())
    refused = job_of(tmp_path / "refused", base, max_length=16)
    rows = [supervised_data(1)[0] | {"response": "yes " * 60}]
    import polars as pl

    pl.DataFrame(rows).write_parquet(refused.data)
    with second(refused) as agent:
        assert ended(started(refused, SLURMD_NODENAME="node-a"))[0] == 1
        assert agent.wait() != 0
    assert re.match(r"rank \d on node-[ab]: no row of", refused.error.read_text())


def test_an_address_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(app, ["join", "node1"])
    assert result.exit_code == 2
    assert "'node1' is not HOST:PORT" in result.output


class Node(threading.Thread):
    """A node as whoever watches sees it."""

    def __init__(self, port: int, place: int) -> None:
        super().__init__(daemon=True)
        self.store, self.place, self.gone = connect("127.0.0.1", port), place, threading.Event()
        self.store.add("places", 1)
        self.store.set(f"name/{place}", f"node-{'ab'[place]}")
        self.start()

    def run(self) -> None:
        with suppress(RuntimeError):  # the store is closed
            while not self.gone.wait(0.1):
                self.store.add(f"beat/{self.place}", 1)

    def fail(self, **failure: Any) -> None:
        self.store.set(f"failed/{self.place}", Failure(**failure).model_dump_json())

    def leave(self) -> None:
        self.gone.set()
        self.store.set(f"left/{self.place}", "")


@pytest.mark.parametrize(("happens", "error", "why"), [
    ("lost", NodeLost, r"node 2 of 2 \(node-b\) with rank 1 is lost: no sign of it for 1 s"),
    ("killed", TrainingProblem, r"rank 1 on node 2 of 2 \(node-b\) was killed by signal 9"),
    ("failed", TrainingProblem, r"rank 1 on node-b: loss is nan"),
    ("agent", TrainingProblem, r"node 2 of 2 \(node-b\) with rank 1: there is no job here"),
    ("alone", TrainingProblem, r"1 of 2 nodes came within 1 s \(train\.wait\): do this"),
])
def test_the_cause_is_told_and_not_what_follows_from_it(
    happens: str, error: type[Exception], why: str, base: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path, base, patience=1)
    assert job.nodes
    given = job.nodes.model_copy(update={"wait": 1.0 if happens == "alone" else 60.0})
    job.work.mkdir()
    with nodes._opened("127.0.0.1", given.port) as store:
        here = [Node(given.port, place) for place in range(1 if happens == "alone" else 2)]
        if happens not in ("agent", "alone"):  # what follows: the other one's connection is broken
            here[0].fail(why="ended with exit code 1", rank=0)
            job.error.write_text("rank 1 on node-b: loss is nan" if happens == "failed" else "rank 0: closed by peer")
        match happens:
            case "lost":
                here[1].gone.set()
            case "killed":
                here[1].fail(why="was killed by signal 9", rank=1, signal=9)
            case "agent":
                here[1].fail(why="there is no job here")
        for node in here:
            node.store.set(f"left/{node.place}", "")
        with pytest.raises(error, match=why):
            nodes._Watch(job, given, store, print, "do this").train(tmp_path / "job.json")
        for node in here:
            node.leave()
            node.join()


def test_what_cannot_be_divided_is_refused_and_nodes_enter_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(**changes: Any) -> Any:
        return load_settings(changes, environment={})

    with pytest.raises(SettingsError, match=r"sl\.processes=3 cannot be divided evenly among train\.nodes=2"):
        settings(train={"nodes": 2}, sl={"processes": 3})
    with pytest.raises(SettingsError, match=r"train\.nodes=2 divides processes, and every training has one"):
        settings(train={"nodes": 2})
    one, two = settings(sl={"processes": 4}), settings(sl={"processes": 4}, train={"nodes": 2})
    assert recipe(one, "supervised") == recipe(two, "supervised")
    assert (two.nodes_of(two.sl), two.nodes_of(two.reward)) == (2, 1)
    assert {"train.address", "train.port"} <= by_own_hand(two)
    monkeypatch.setattr("cai_assets.train.choice.capacity", lambda: 4000)
    place = type("P", (), {"device": type("D", (), {"accelerator": ""})})
    assert (room(one, one.sl, place), room(two, two.sl, place)) == (1000, 2000)
    by_ray = two.model_copy(update={"engine": Engine(replicas=2, dtype="float32")})
    assert room(by_ray, two.sl, place) == 0, "unknown"
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    refuse_too_few(one)
    refuse_too_few(by_ray)
    with pytest.raises(TrainingProblem, match=r"train\.nodes=2, and this job of Slurm has 1: submit it with --nodes=2"):
        refuse_too_few(two)


@pytest.fixture
def ray_cluster() -> Iterator[Any]:
    """With two nodes for trainings; the third, its head, has no room for one."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in ALONE.items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 0, "include_dashboard": False})
        try:
            made.second, made.third = made.add_node(**SMALL), made.add_node(**SMALL)
            yield made
        finally:
            made.shutdown()


def by_ray(cluster: Any, folder: Path, base: Path, **more: Any) -> Job:
    engine = Engine(replicas=1, dtype="float32", ray_address=cluster.address)
    return job_of(folder, base, **more).model_copy(update={"engine": engine})


@pytest.mark.long
@pytest.mark.fault("a node of a training on two is lost")
def test_ray_starts_the_agents_on_nodes_of_its_own_and_goes_on_after_one_is_lost(
    ray_cluster: Any, base: Path, tmp_path: Path
) -> None:
    long = {"epochs": 5 * STEPS / 2}  # Ray takes a moment to end what ran on a dead node
    straight, disturbed = (by_ray(ray_cluster, tmp_path / name, base, **long) for name in ("straight", "disturbed"))
    code, said = ended(started(straight))
    assert code == 0, said
    assert len(set(re.findall(r"node \d of 2", said))) == 2
    assert json.loads(straight.metrics.read_text())["steps"] == 5 * STEPS

    run = started(disturbed)
    until(lambda: run.poll() is not None or [*disturbed.state.glob("checkpoint-*/complete.json")])
    ray_cluster.remove_node(ray_cluster.second, allow_graceful=False)
    code, said = ended(run)
    assert code == LOST, said
    assert re.match(r"node \d of 2 \(.*\) with rank \d is lost: no sign of it for 8 s", disturbed.error.read_text())
    assert not disturbed.final.exists()
    assert disturbed.nodes
    hurried = disturbed.model_copy(update={"nodes": disturbed.nodes.model_copy(update={"wait": 5.0})})
    code, said = ended(started(hurried))
    assert code == 1
    assert "the Ray cluster gave no 2 nodes with 0 free GPUs each within 5 s" in said

    ray_cluster.add_node(**SMALL)
    code, said = ended(started(disturbed))
    assert code == 0, said
    assert SAVED <= json.loads(disturbed.metrics.read_text())["resumed_from"] < 5 * STEPS
    one, two = (load_file(job.final / "model.safetensors") for job in (straight, disturbed))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
