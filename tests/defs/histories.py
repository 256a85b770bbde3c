"""Random histories of one data root: what changes between two runs, how a run is disturbed, and what must hold after.

The engine is the scripted one, whose text is a function of its full input; the trainer process is replaced by a copy of
the base model, because a checkpoint's key does not depend on its bytes.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from object_store import DataRoot
from patience import Watch, until

from cai_assets.assets import GRAPH, ORDER, partition_of
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.defs.outcome import failures
from cai_assets.engines.scripted import Scripted
from cai_assets.evals.reward import measure
from cai_assets.pipeline.project import Project
from cai_assets.store.garbage import table_keys
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import RowStore, read_shard
from cai_assets.store.upkeep import steps
from cai_assets.train.job import Job
from cai_assets.versions.snapshots import VERSIONS

START = load_file(Path(__file__).parents[2] / "constitutions" / "customer-service.yaml")
ROUNDS = 3
VIEWS = {a.name for a in GRAPH if a.kind == "view"}  # they also say what else is in the store, so a rebuild has others
METRICS = {"loss_first": 1.0, "kl_max": 0.0, "held_out": measure([], [])}


def copy_instead_of_training(context: object, asset: str, job: Job) -> None:
    ignore = shutil.ignore_patterns("record.json", "README.md", "*.jsonl")
    shutil.copytree(job.base, job.final, ignore=ignore, dirs_exist_ok=True)  # a killed one may have begun
    (job.final / "held_out.jsonl").touch()
    job.metrics.write_text(json.dumps(METRICS))
    job.curves.write_text('{"step": 1, "loss": 1.0, "kl": 0.0}\n')


class History:
    """One data root with a history, and the settings and constitution as they are now."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.constitution = START
        self.settings: dict[str, Any] = {
            "models": {"generator": {"source": str(model), "backend": "scripted"}}, "critique": {"rounds": ROUNDS},
            "prompts": {"red_team": 6, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2},
        }
        self.past: list[tuple[Constitution, dict[str, Any]]] = []

    def project(self, root: DataRoot) -> Project:
        return Project.open({**self.settings, "data_root": str(root)})

    def run(self, root: DataRoot) -> tuple[bool, str]:
        project = self.project(root)
        version = project.snapshots.register(self.constitution)
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(VERSIONS, [version])
            overrides = {**self.settings, "data_root": str(root)}
            result = materialize(instance, version, overrides=overrides)
            print(*([] if result.success else failures(result)), sep="\n", flush=True)
            return result.success, version

    def digests(self, root: DataRoot, version: str) -> dict[str, str]:
        records = self.project(root).records
        return {a: records.latest(a, partition_of(a, version)).digest
                for a in ORDER if a not in VIEWS}

    def change(self, rng: random.Random) -> str:
        """Make one random change; return its name."""
        principles = list(self.constitution.principles)
        i, number = rng.randrange(len(principles)), rng.randrange(10**6)
        name = rng.choice(["edit", "edit preference", "edit evaluation", "add", "remove", "reorder", "re-weight",
                           "revert", "setting", "prompts", "crash"])
        before = (self.constitution, self.settings)
        if name == "edit":
            principles[i] = principles[i].model_copy(update={"critique": f"Say what is wrong, number {number}."})
        elif name == "edit preference":
            principles[i] = principles[i].model_copy(update={"preference": f"Which is better, number {number}?"})
        elif name == "edit evaluation":
            principles[i] = principles[i].model_copy(update={"evaluation": f"Which keeps to {number}?"})
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


    def beside(self, rng: random.Random) -> History:
        """The same settings and past with a constitution one change further on, for a run at the same time."""
        other = copy.copy(self)
        while other.constitution == self.constitution:
            other.change(rng)
            other.settings = self.settings
        return other


def crash_somewhere(history: History, rng: random.Random, monkeypatch: pytest.MonkeyPatch, root: DataRoot) -> None:
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
        history.run(root)


def run_at_once(histories: Sequence[History], root: DataRoot) -> list[str]:
    """Materialize into one data root at the same time, each in a process of its own; return the versions."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(len(histories))
    running = [context.Process(target=_run_together, args=(h, root, together)) for h in histories]
    for process in running:
        process.start()
    until(lambda: any(p.exitcode for p in running) or all(p.exitcode == 0 for p in running),
          Watch(processes=[os.getpid()]))
    together.abort()  # if one has ended before the others began
    for process in running:
        process.join()
    assert [p.exitcode for p in running] == [0] * len(running)
    return [h.project(root).snapshots.register(h.constitution) for h in histories]


def _run_together(history: History, root: DataRoot, together: Any) -> None:
    launch._run = copy_instead_of_training
    together.wait()
    sys.exit(not history.run(root)[0])


def stored(root: DataRoot) -> dict[str, str]:
    """Every row key in the store with its answer. No key may have two."""
    layout = Layout(root)
    answers: dict[str, str] = {}
    for step in steps(layout):
        for shard in RowStore(layout).shards(step):
            for key, text, logprobs in read_shard(shard, ["row_key", "text", "logprobs"]).iter_rows():
                answer = f"{text} {list(logprobs)}"
                assert answers.setdefault(key, answer) == answer, f"{key} of {step} is stored with two texts"
    return answers


def named(root: DataRoot, version: str) -> set[str]:
    """Row keys that the newest records of a version name, in any of their tables."""
    layout = Layout(root)
    records = [latest(root, asset, version) for asset in ORDER if asset != "comparison"]
    tables = {layout.absolute(p) for r in records for p in r.named_tables()}
    return {key for table in tables for column in table_keys(table) for key in column} - {""}


def latest(root: DataRoot, asset: str, version: str) -> Record:
    return Records(Layout(root)).latest(asset, partition_of(asset, version))


def check_rows_are_conserved(root: DataRoot, version: str) -> None:
    """Every input row is reused, generated or failed: counted in the record, and there in the table."""
    records = {asset: latest(root, asset, version) for asset in ORDER if asset != "comparison"}
    tables = {asset: Records(Layout(root)).table(r) for asset, r in records.items() if r.path.startswith("tables/")}
    prompts, pairs = tables["prompts"], tables["response_pairs"]
    train = prompts.filter(pl.col("split") == "train")
    red_team = train.filter(pl.col("kind") == "red-team").height
    calls = {"initial_responses": prompts.height, "critiques": ROUNDS * red_team, "revisions": ROUNDS * red_team,
             "response_pairs": 2 * pairs.height}
    for asset, wanted in calls.items():
        record = records[asset]
        assert record.reused + record.generated + record.failed == wanted, asset
    assert tables["initial_responses"].height == prompts.height
    assert tables["critiques"].height == tables["revisions"].height == ROUNDS * red_team
    assert set(pairs["prompt_id"]) == set(train["prompt_id"])
    labels = tables["preference_pairs"]
    assert labels.filter(pl.col("p_a").is_not_null() | pl.col("error").is_not_null()).height == pairs.height
