"""A real Ray cluster of two nodes on this machine: workers, nodes and drivers die, engines are lost, rows kill whoever
serves them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import psutil
import ray
import ray_engines
from model_fixtures import prepared_model
from patience import until
from tiny_models import tiny_model

from cai_assets.engines.models import EngineLost
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import Call, Request, Result, Sampling
from cai_assets.engines.ray_engine import RayEngine, connected
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.engines.vllm_engine import VllmEngine
from cai_assets.settings import Engine, Settings
from cai_assets.steps.complete import Completer, Step
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

SETTINGS = Engine(replicas=2, dtype="float32")
HERE = (str(Path(__file__).parents[1]), str(Path(__file__).parents[2]))


SMALL = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    """With a second node, which ``second`` is."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([*HERE, os.environ.get("PYTHONPATH", "")]))
        made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        made.second = made.add_node(**SMALL)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


def asks(n: int) -> list[Request]:
    call = Call(messages=({"role": "user", "content": "Say something."},), sampling=Sampling())
    return [Request(row_key=f"row:{i}", seed=i, call=call) for i in range(n)]


def spread(folder: Path, hook: Any = None, replicas: int = 2) -> RayEngine:
    folder.mkdir(exist_ok=True)
    settings = SETTINGS.model_copy(update={"replicas": replicas})
    return RayEngine(partial(ray_engines.Watched, folder, *([hook] if hook else [])), settings)


def served(engine: RayEngine, n: int = 200, said: dict[str, str] | None = None) -> dict[str, Result]:
    try:
        results = list(engine.run(asks(n)))
    finally:
        if said is not None:
            said.update(engine.servers)
        engine.close()
    assert Counter(r.row_key for r in results) == Counter(f"row:{i}" for i in range(n)), "none lost, none twice"
    return {r.row_key: r for r in results}


def alone(n: int = 200) -> dict[str, Result]:
    return {r.row_key: r for r in Scripted().run(asks(n))}


def test_two_workers_say_what_one_engine_says(tmp_path: Path) -> None:
    assert served(spread(tmp_path / "w", partial(ray_engines.waits_for, 2))) == alone()
    assert len([*(tmp_path / "w").iterdir()]) == 2, "both had work"


@pytest.mark.parametrize("hook", [ray_engines.once, ray_engines.dies_once])
def test_what_a_worker_had_when_it_was_killed_is_answered_by_others(tmp_path: Path, hook: Any) -> None:
    said: dict[str, str] = {}
    assert served(spread(tmp_path / "w", hook), said=said) == alone()
    assert len(said) == 2
    assert sum("deaths: 1" in how for how in said.values()) == 1
    assert all(" rows, " in how and " tokens/s" in how for how in said.values() if not how.startswith("0 rows"))


@pytest.mark.long
def test_a_row_that_kills_its_workers_fails_and_its_neighbors_do_not(tmp_path: Path) -> None:
    results = served(spread(tmp_path / "w", ray_engines.poison), 100)
    dead = {"row:7", "row:90"}
    assert {k: r.error for k, r in results.items() if r.error} == dict.fromkeys(dead, "2 workers died on this row")
    assert {k: r for k, r in results.items() if k not in dead} == {
        k: r for k, r in alone(100).items() if k not in dead}


def test_a_model_that_no_worker_can_load_is_lost_with_its_reason(tmp_path: Path) -> None:
    engine = spread(tmp_path / "w", ray_engines.cannot_load)
    with pytest.raises(EngineLost, match="no such model here"):
        list(engine.run(asks(5)))
    engine.close()


def test_chains_flow_through_a_cluster_into_the_store_and_a_second_run_asks_for_nothing(tmp_path: Path) -> None:
    def talk(i: int) -> Any:
        text = f"talk {i}"
        for _ in range(3):
            row = yield Step("say"), Call(messages=({"role": "user", "content": text},), sampling=Sampling())
            text = row.text
        return text

    def run(engine: Any, root: Path) -> tuple[list[str], int]:
        complete = Completer(engine, RowStore(Layout(root)), seed=0)
        said = complete.flow([talk(i) for i in range(60)], what="talks", asks=3)
        return said, complete.usage["say"].generated

    engine = spread(tmp_path / "w")
    first, second = (run(engine, tmp_path / "data") for _ in range(2))
    engine.close()
    said, _ = run(Scripted(), tmp_path / "alone")
    assert (first, second) == ((said, 180), (said, 0))


def test_the_pool_spreads_models_and_checkpoints_and_keys_do_not_know(tmp_path: Path) -> None:
    here = Settings(models={"generator": {"source": "m", "backend": "scripted"}})  # type: ignore[arg-type]
    there = here.model_copy(update={"engine": SETTINGS})
    (tmp_path / "checkpoint").mkdir()
    one, many = (EnginePool(s, Layout(tmp_path)) for s in (here, there))
    for alike in ([p.open(here.models.generator) for p in (one, many)],
                  [p.open_checkpoint(tmp_path / "checkpoint") for p in (one, many)]):
        assert isinstance(alike[1], RayEngine)
        assert alike[1].identity == alike[0].identity


DRIVER = """
import sys
from pathlib import Path
from functools import partial
import ray, ray_engines
from cai_assets.engines.protocol import Call, Sampling
from cai_assets.engines.ray_engine import RayEngine
from cai_assets.settings import Engine
from cai_assets.steps.complete import Completer, Step
from cai_assets.store import row_store
from cai_assets.store.layout import Layout

row_store.SHARD_ROWS = 16
address, root, folder = sys.argv[1:]
engine = RayEngine(partial(ray_engines.Watched, Path(folder), partial(ray_engines.slow, 2)),
                   Engine(replicas=2, dtype="float32", ray_address=address))
complete = Completer(engine, row_store.RowStore(Layout(root)), seed=0)
complete(Step("say"), [Call(messages=({"role": "user", "content": str(i)},), sampling=Sampling()) for i in range(600)])
print(complete.usage["say"].generated)
"""


@pytest.mark.long
def test_after_a_killed_driver_only_what_it_had_not_stored_is_asked_again(
    objects_url: str, cluster: Any, tmp_path: Path
) -> None:
    """Its workers end with it, and those of the next one have their places."""
    def driver(name: str) -> subprocess.Popen[str]:
        (tmp_path / name).mkdir()
        return subprocess.Popen([sys.executable, "-c", DRIVER, cluster.address, objects_url, str(tmp_path / name)],
                                stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(
                                    [*HERE, os.environ.get("PYTHONPATH", "")])})

    def stored() -> int:
        return RowStore(Layout(objects_url)).keys("say").height

    first = driver("first")
    until(lambda: first.poll() is not None or stored() >= 160)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = stored()
    assert 160 <= before < 600
    second = driver("second")
    said = second.communicate()[0]
    assert (second.returncode, int(said)) == (0, 600 - before)
    assert stored() == 600
    workers = [int(p.name) for name in ("first", "second") for p in (tmp_path / name).iterdir()]
    until(lambda: not any(map(psutil.pid_exists, workers)))


@pytest.mark.long
def test_a_trained_checkpoint_is_served_by_workers_and_says_what_it_says_here(tmp_path: Path) -> None:
    path = str(tiny_model(tmp_path / "base"))
    settings = Settings(models={"generator": {"source": path, "backend": "transformers"}},  # type: ignore[arg-type]
                        engine=Engine(dtype="float32"))
    folder = tiny_model(tmp_path / "checkpoint", seed=1)
    said = []
    for each in (settings, settings.model_copy(update={"engine": SETTINGS})):
        pool = EnginePool(each, Layout(tmp_path / "data"))
        engine = pool.open_checkpoint(folder)
        said.append({r.row_key: r.text for r in engine.run(asks(8))})
        pool.close()
    assert said[0] == said[1]
    assert len(said[0]) == 8


@pytest.mark.long
@pytest.mark.model
def test_the_real_model_on_vllm_in_two_workers_of_which_one_is_killed(tmp_path: Path) -> None:
    model = prepared_model()
    settings = Engine(replicas=2, dtype="float32", max_model_len=512, max_num_seqs=4, cpu_kv_cache_gib=1)
    make = partial(VllmEngine, model.path, model.identity, settings)
    engine = RayEngine(partial(ray_engines.Watched, tmp_path, ray_engines.in_the_middle, make), settings)
    sampling = Sampling(max_tokens=8, temperature=0.0)
    requests = [Request(row_key=f"row:{i}", seed=i, call=Call(
        messages=({"role": "user", "content": f"Name {i} fruits."},), sampling=sampling)) for i in range(64)]
    results = list(engine.run(requests))
    said = engine.servers
    engine.close()
    assert Counter(r.row_key for r in results) == Counter(r.row_key for r in requests), "none lost, none twice"
    assert [r.error for r in results if r.error] == []
    assert all(r.text for r in results)
    assert (tmp_path / "killed").exists()
    assert sum("deaths: 1" in how for how in said.values()) == 1


@pytest.mark.long
@pytest.mark.model
def test_the_real_model_in_workers_says_what_it_says_here(tmp_path: Path) -> None:
    model = prepared_model()
    settings = Engine(replicas=1, dtype="float32", max_model_len=512)
    make = partial(TransformersEngine, model.path, model.identity, settings)
    calls = [Call(messages=({"role": "user", "content": f"Name {n} fruits."},), sampling=Sampling(max_tokens=8))
             for n in range(1, 5)]
    calls += [Call(messages=({"role": "user", "content": "A or B? ("},), style="plain", answers=("A", "B"))]
    requests = [Request(row_key=f"k{i}", seed=i, call=call) for i, call in enumerate(calls)]
    engine, here = RayEngine(make, settings), make()
    found, wanted = ({r.row_key: r for r in e.run(requests)} for e in (engine, here))
    engine.close()
    here.close()
    assert {k: r.text for k, r in found.items()} == {k: r.text for k, r in wanted.items()}
    assert found["k4"].logprobs == pytest.approx(wanted["k4"].logprobs, abs=1e-4)
    assert engine.identity == here.identity


def test_the_number_format_must_be_named() -> None:
    with pytest.raises(ValueError, match=r"set engine\.dtype"):
        Engine(replicas=2)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "somewhere"])
def test_an_address_at_which_nobody_answers_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(EngineLost, match=f"engine.ray_address: no Ray cluster at '{address}' .*; start one with"):
        connected(SETTINGS.model_copy(update={"ray_address": address}))


def test_nothing_of_ray_is_imported_without_replicas() -> None:
    code = "import sys, cai_assets.definitions; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.long
def test_of_three_nodes_one_dies_in_the_middle(tmp_path: Path, cluster: Any) -> None:
    third = cluster.add_node(**SMALL)
    engine = spread(tmp_path / "w", partial(ray_engines.slow, 3), replicas=3)
    results = engine.run(asks(600))
    found = [next(results) for _ in range(240)]
    cluster.remove_node(third, allow_graceful=False)
    found += results
    said = engine.servers
    engine.close()
    assert sum("deaths: 1" in how for how in said.values()) == 1
    assert {r.row_key: r for r in found} == alone(600)
    assert len(found) == 600


def test_a_node_that_dies_takes_no_row_with_it(tmp_path: Path, cluster: Any) -> None:
    """The last test: the cluster has one node afterwards, and nothing comes in place of the other."""
    results = spread(tmp_path / "w", partial(ray_engines.waits_for, 2)).run(asks(200))
    found = [next(results)]
    cluster.remove_node(cluster.second, allow_graceful=False)
    found += results
    assert {r.row_key: r for r in found} == alone()
    assert len(found) == 200
