"""How often models are loaded: each policy once for an asset, and none where everything is used again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from histories import History, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.engines import memory
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import Engine, ModelIdentity, Request, Result
from cai_assets.engines.scripted import Scripted
from cai_assets.versions.snapshots import VERSIONS

MEASURED = ("constitution_tests", "evaluation", "round_quality", "suite_results")


class Loading:
    """A scripted engine that holds the place in memory as one with weights does; ``log`` has every loading."""

    log: list[str] = []  # noqa: RUF012
    running = False
    path = Path("no folder")

    def __init__(self, engine: Engine, pool: EnginePool) -> None:
        self.engine, self.pool, self.loaded = engine, pool, False

    @property
    def identity(self) -> ModelIdentity:
        return self.engine.identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        self.pool.make_room_for(self)  # type: ignore[arg-type]
        if not self.loaded:
            self.loaded = True
            Loading.log.append(self.identity.weights)
        yield from self.engine.run(requests)

    def close(self) -> None:
        self.loaded = False


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """The whole graph has run once, and memory holds one model at a time."""
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    monkeypatch.setattr(memory, "available", lambda: 0)
    made = History(tmp_path, tiny_model(tmp_path / "tiny"))
    assert made.run(tmp_path / "data")[0]
    for name in ("open", "open_checkpoint"):
        monkeypatch.setattr(EnginePool, name, counting(getattr(EnginePool, name)))
    return made


def counting(opens: Any) -> Any:
    def opened(pool: EnginePool, what: Any) -> Engine:
        engine = opens(pool, what)
        if isinstance(engine, Scripted):
            key = next(k for k, e in pool._engines.items() if e is engine)
            pool._engines[key] = engine = Loading(engine, pool)
        return engine

    return opened


def loadings(history: History, asset: str, **settings: Any) -> Counter[str]:
    """Materialize one asset again, with other settings; how often each model was loaded for it."""
    Loading.log.clear()
    project = history.project(history.root / "data")
    version = project.snapshots.register(history.constitution)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        overrides = {**history.settings, **settings, "data_root": str(history.root / "data")}
        assert materialize(instance, version, selection=[asset], overrides=overrides).success
    return Counter(Loading.log)


@pytest.mark.parametrize("judge", [None, {"source": "a-judge", "backend": "scripted"}])
def test_each_model_is_loaded_once_for_an_asset_and_not_at_all_for_nothing_new(
    history: History, judge: dict[str, str] | None
) -> None:
    others = {"another": {"source": "another", "backend": "scripted"}}
    for asset in MEASURED:
        assert not loadings(history, asset), asset
        new = {"evaluation": {"samples": 2, "others": others, "max_tokens": 7, "round_chains": 50},
               "models": {**history.settings["models"], **({"judge": judge} if judge else {})},
               "generation": {"max_tokens": 9}, "labels": {"style": "chat"}}
        counts = loadings(history, asset, **new)
        models = {"evaluation": 5, "suite_results": 5, "round_quality": 1, "constitution_tests": 2}[asset]
        assert len(counts) == models + (judge is not None and asset != "round_quality"), asset
        assert set(counts.values()) == {1}, asset
        assert not loadings(history, asset, **new), asset
