"""A real Ray cluster of two nodes on this machine: workers die, engines are lost, rows kill whoever serves them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
import ray_engines
from model_fixtures import prepared_model

from cai_assets.engines.models import EngineLost
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import Call, Request, Result, Sampling
from cai_assets.engines.ray_engine import RayEngine, connected
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.settings import Engine, Settings
from cai_assets.steps.complete import Completer, Step
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

SETTINGS = Engine(replicas=2, dtype="float32")
HERE = (str(Path(__file__).parents[1]), str(Path(__file__).parents[2]))


@pytest.fixture(scope="module", autouse=True)
def second_node() -> Iterator[Callable[[], None]]:
    """Kills it."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([*HERE, os.environ.get("PYTHONPATH", "")]))
        small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        second = made.add_node(**small)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield lambda: made.remove_node(second, allow_graceful=False)
        ray.shutdown()
        made.shutdown()


def asks(n: int) -> list[Request]:
    call = Call(messages=({"role": "user", "content": "Say something."},), sampling=Sampling())
    return [Request(row_key=f"row:{i}", seed=i, call=call) for i in range(n)]


def spread(folder: Path, hook: Any = None) -> RayEngine:
    folder.mkdir(exist_ok=True)
    return RayEngine(partial(ray_engines.Watched, folder, *([hook] if hook else [])), SETTINGS)


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
    assert served(spread(tmp_path / "w", ray_engines.waits_for_another)) == alone()
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


def test_a_node_that_dies_takes_no_row_with_it(tmp_path: Path, second_node: Callable[[], None]) -> None:
    """The last test: the cluster has one node afterwards."""
    results = spread(tmp_path / "w", ray_engines.waits_for_another).run(asks(200))
    found = [next(results)]
    second_node()
    found += results
    assert {r.row_key: r for r in found} == alone()
    assert len(found) == 200
