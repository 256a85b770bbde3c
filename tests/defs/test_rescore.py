"""Rollouts of ``rl.reward: rubric`` through the graph: kept as rows, scored again for what an edit costs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from histories import History, copy_instead_of_training
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.digest import reward_digest
from cai_assets.defs import launch
from cai_assets.engines.templating import load_tokenizer
from cai_assets.evals.rescore import Side, rescored
from cai_assets.evals.rubric import Part
from cai_assets.lineage.trace import row_chain
from cai_assets.plan.plan import make_plan
from cai_assets.settings import Reinforcement
from cai_assets.store.garbage import gc
from cai_assets.store.parquet import read_parquet
from cai_assets.store.row_store import RowStore
from cai_assets.train.job import Job
from cai_assets.train.parted import from_rubric

ROLLOUTS, PRINCIPLES = 4, 5


def samples_instead_of_training(context: object, asset: str, job: Job) -> None:
    """A copy; of the RL policy four rollouts for each prompt, scored as a training scores them."""
    copy_instead_of_training(context, asset, job)
    if job.rewards:
        tokenizer = load_tokenizer(job.base)
        parted = from_rubric(job, Reinforcement.model_validate(job.settings), tokenizer)
        rows = pl.read_parquet(job.data).filter(~pl.col("held_out")).to_dicts() * ROLLOUTS
        draw = random.Random(0)
        ids = [[draw.randrange(6, 20) for _ in range(4)] for _ in rows]
        columns = {name: [row[name] for row in rows] for name in ("messages", "principles")}
        parted.functions()[0](completion_ids=ids, **columns)


class World:
    def __init__(self, root: Path) -> None:
        self.root, self.history = root, History(root, tiny_model(root / "tiny"))
        self.history.settings |= {"rl": {"reward": "rubric"}, "data_root": str(root / "data")}
        ok, self.version = self.history.run(root / "data")
        assert ok
        self.project = self.history.project(root / "data")
        self.record = self.project.records.latest("rl_policy", self.version)
        self.rollouts = read_parquet(self.project.layout.absolute(self.record.details["rollouts"]))

    def edited(self, **changes: Any) -> str:
        first, *rest = self.history.constitution.principles
        changed = (first.model_copy(update=changes), *rest)
        key: str = self.project.snapshots.register(self.history.constitution.model_copy(update={"principles": changed}))
        return key

    def cli(self, patch: pytest.MonkeyPatch, *arguments: str) -> str:
        patch.setenv("CAI_DATA_ROOT", str(self.root / "data"))
        patch.setenv("CAI_MODELS", json.dumps(self.history.settings["models"]))
        result = CliRunner().invoke(app, list(arguments))
        return f"{result.exit_code} {result.output}{result.stderr}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", samples_instead_of_training)
        yield World(tmp_path_factory.mktemp("rescore"))


def test_rollouts_and_scores_are_rows_with_principle_digest_and_lineage(world: World) -> None:
    principles = {p.id: reward_digest(p) for p in world.history.constitution.principles}
    assert world.rollouts.height % ROLLOUTS == 0
    assert world.rollouts["row_id"].n_unique() == world.rollouts.height
    scores = world.rollouts.explode("scores").unnest("scores", separator=".")
    assert dict(scores.select("scores.principle_id", "scores.principle_digest").unique().iter_rows()) == principles
    keys = set(world.rollouts["row_keys"].explode())
    assert len(keys) == len(RowStore(world.project.layout).lookup("rubric", list(keys)))
    assert scores["scores.value"].is_between(0, 1).all()
    chain = row_chain(world.project.layout, world.rollouts["row_id"][0])
    assert {"rollouts", "prompts"} <= set(chain["asset"])
    garbage = gc(world.project.layout, world.project.records, apply=False, grace=-60)
    assert [g for g in garbage if "rubric" in str(g.path)] == []


def test_a_plan_knows_the_policy_again_and_an_edited_principle_trains_another(world: World) -> None:
    again = {line.asset: line for line in make_plan(world.project, world.version).lines}
    assert again["rl_policy"].training == "reuse"
    other = world.edited(rubric="Is the answer short?")
    line = next(x for x in make_plan(world.project, other).lines if x.asset == "rl_policy")
    assert line.trains


def test_an_edit_of_one_of_five_asks_a_fifth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.edited(rubric="Does the answer name a number?")
    distinct = world.rollouts.select("prompt_id", "response").unique().height
    planned = world.cli(monkeypatch, "rescore", world.version, "--constitution", other, "--plan")
    found = re.search(r"(\d+) rollouts; (\d+) calls to the labeler, (\d+) answers reused", planned)
    assert found, planned
    assert int(found[2]) == 2 * distinct
    assert int(found[3]) == 2 * (PRINCIPLES - 1) * world.rollouts.height
    made = json.loads(world.cli(monkeypatch, "rescore", world.version, "--constitution", other, "--json")[2:])
    assert made["calls"] == 2 * distinct
    assert list(made["moved"]) == [f"question:{world.history.constitution.principles[0].id}"]
    assert 0 < made["changed"]["value"] <= 1
    assert made["examples"]
    free = world.cli(monkeypatch, "rescore", world.version, "--constitution", other, "--plan")
    assert " 0 calls to the labeler" in free
    same = world.cli(monkeypatch, "rescore", world.version, "--constitution", world.version, "--json")
    nothing = json.loads(same[2:])
    assert (nothing["calls"], nothing["changed"]["value"], nothing["moved"]) == (0, 0.0, {})


def test_a_changed_priority_asks_nothing_and_trains_the_policy_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = world.edited(priority=2)
    made = json.loads(world.cli(monkeypatch, "rescore", world.version, "--constitution", other, "--json")[2:])
    assert (made["calls"], made["moved"]) == (0, {})
    assert made["changed"]["value"] > 0
    lines = make_plan(world.project, other).lines
    assert next(line.trains for line in lines if line.asset == "rl_policy")
    assert not any(line.trains for line in lines if line.asset in {"sl_policy", "reward_model"})


def test_what_is_no_sum_of_scores_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.edited(name="as before")
    assert world.cli(monkeypatch, "rescore", "nobody-v1-00000000", "--constitution", other).startswith("2 ")
    world.history.settings |= {"rl": {"reward": "model"}}
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    for name in ("CAI_DATA_ROOT", "CAI_MODELS"):  # the history's own settings are enough
        monkeypatch.delenv(name)
    world.history.run(world.root / "data")
    refused = world.cli(monkeypatch, "rescore", world.version, "--constitution", other)
    assert refused.startswith("2 ")
    assert "rl.reward=model" in refused


def test_planted_orders_are_counted() -> None:
    """Two prompts of three responses; the edit turns the order of the first prompt around, and not of the second."""
    rollouts = [{"prompt_id": p, "response": f"{p}{i}"} for p in "ab" for i in range(3)]

    def side(digest: str, values: list[float]) -> Side:
        parts = (Part(kind="question", principle="p", digest=digest, weight=1.0, question="?"),)
        return Side(parts, np.array(values)[:, None])

    found = rescored(rollouts, side("x", [0.1, 0.5, 0.9, 0.1, 0.5, 0.9]), side("y", [0.9, 0.5, 0.1, 0.1, 0.5, 0.9]),
                     confidence=0.95)
    assert (found.changed.value, found.changed.n, found.turned.value, found.tau.value) == (0.5, 2, 0.5, 0.0)
    assert {e.prompt_id for e in found.examples} == {"a"}
    assert found.moved["question:p"].n == 2
