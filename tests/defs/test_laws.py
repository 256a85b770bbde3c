"""Laws 1 to 4 under random histories: edits, reverts, settings, new prompts and crashes, through the real graph.

The engine is the scripted one, whose text is a function of its full input; the trainer process is replaced by a copy of
the base model, because a checkpoint's key does not depend on its bytes. After each step of the history the version is
also built from nothing in a fresh data root: every asset must come out with the same digest, and the plan made before
must hold what the run did.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from tiny_models import tiny_model

from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.defs import launch
from cai_assets.defs.execute import materialise
from cai_assets.engines.scripted import Scripted
from cai_assets.lineage.snapshots import VERSIONS
from cai_assets.plan.plan import make_plan
from cai_assets.project import Project
from cai_assets.reports.summary import ORDER, WITHOUT_VERSION
from cai_assets.train.job import Job

START = load_file(Path(__file__).parents[2] / "constitutions" / "customer-service.yaml")
METRICS = {"loss_first": 1.0, "kl_max": 0.0, "held_out": {"n": 0, "accuracy": None}}


def _copy_instead_of_training(context: object, asset: str, job: Job) -> None:
    shutil.copytree(job.base, job.final, ignore=shutil.ignore_patterns("record.json", "README.md", "*.jsonl"))
    job.metrics.write_text(json.dumps(METRICS))
    job.curves.write_text('{"step": 1, "loss": 1.0, "kl": 0.0}\n')


class History:
    """One data root with a history, and the settings and constitution as they are now."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.constitution = START
        self.settings: dict[str, Any] = {
            "models": {"generator": {"source": str(model), "backend": "scripted"}}, "critique": {"rounds": 3},
            "prompts": {"red_team": 6, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2},
        }
        self.past: list[tuple[Constitution, dict[str, Any]]] = []

    def project(self, root: Path) -> Project:
        return Project.open({**self.settings, "data_root": str(root)})

    def run(self, root: Path) -> tuple[bool, str]:
        project = self.project(root)
        version = project.snapshots.register(self.constitution)
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(VERSIONS, [version])
            overrides = {**self.settings, "data_root": str(root)}
            return materialise(instance, version, overrides=overrides).success, version

    def digests(self, root: Path, version: str) -> dict[str, str]:
        records = self.project(root).records
        return {a: records.latest(a, None if a in WITHOUT_VERSION else version).digest
                for a in ORDER if a != "comparison"}

    def change(self, rng: random.Random) -> str:
        """Make one random change; return its name."""
        principles = list(self.constitution.principles)
        i, number = rng.randrange(len(principles)), rng.randrange(10**6)
        name = rng.choice(["edit", "edit preference", "add", "remove", "reorder", "re-weight", "revert", "setting",
                           "prompts", "crash"])
        before = (self.constitution, self.settings)
        if name == "edit":
            principles[i] = principles[i].model_copy(update={"critique": f"Say what is wrong, number {number}."})
        elif name == "edit preference":
            principles[i] = principles[i].model_copy(update={"preference": f"Which is better, number {number}?"})
        elif name == "add":
            principles.append(Principle(id=f"new-{number}", critique=f"Criticise by {number}.",
                                        revision=f"Revise by {number}.", preference=f"Prefer by {number}."))
        elif name == "remove" and len(principles) > 2:
            principles.pop(i)
        elif name == "reorder":
            rng.shuffle(principles)
        elif name == "re-weight":
            principles[i] = principles[i].model_copy(update={"weight": rng.choice([0.5, 2.0, 3.0])})
        elif name == "revert" and self.past:
            self.constitution, self.settings = rng.choice(self.past)
            return name
        elif name == "setting":
            self.settings = {**self.settings, "generation": {"max_tokens": rng.choice([16, 24, 32])}}
        elif name == "prompts":
            more = {**self.settings["prompts"], "red_team": rng.randint(5, 9)}
            self.settings = {**self.settings, "prompts": more}
        self.constitution = self.constitution.model_copy(update={"principles": tuple(principles)})
        self.past.append(before)
        return name


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.setattr(launch, "_run", _copy_instead_of_training)
    return History(tmp_path, tiny_model(tmp_path / "tiny"))


def crash_somewhere(history: History, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with an engine that dies after a few more results."""
    left, serve = [rng.randint(1, 25)], Scripted.run

    def dying(self: Scripted, requests: Any) -> Iterator[Any]:
        for result in serve(self, requests):
            if left[0] <= 0:
                raise RuntimeError("the engine died")
            left[0] -= 1
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(Scripted, "run", dying)
        history.run(history.root / "data")


@pytest.mark.parametrize("seed", range(3))
def test_an_incremental_history_equals_a_rebuild_at_every_step(
    history: History, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    data = history.root / "data"
    assert history.run(data)[0]
    for step in range(7):
        what = history.change(rng)
        if what == "crash":
            crash_somewhere(history, rng, monkeypatch)
        project = history.project(data)
        plan = make_plan(project, project.snapshots.register(history.constitution))
        success, version = history.run(data)
        assert success, what
        fresh = history.root / f"fresh-{step}"
        assert history.run(fresh)[0]
        assert history.digests(data, version) == history.digests(fresh, version), what
        for line in plan.lines:
            record = project.records.latest(line.asset, None if line.asset in WITHOUT_VERSION else version)
            assert record.failed == 0, (what, line.asset)
            assert line.generate_min <= record.generated <= line.generate_max, (what, line)
            if line.training:
                wanted = {"reuse": {True}, "train": {False}}.get(line.training, {True, False})
                assert record.details["reused_checkpoint"] in wanted, (what, line)
        shutil.rmtree(fresh)
