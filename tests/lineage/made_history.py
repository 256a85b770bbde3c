"""A history made once and read by several tests: versions edited, reverted and archived, settings and prompts changed,
three rounds. Beside it, what every record's trace said on the day it was made, and a plain recomputation."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from histories import History, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.constitution.model import Principle
from cai_assets.defs import launch
from cai_assets.defs.execute import materialise
from cai_assets.lineage.archive import Archive
from cai_assets.lineage.layout import Layout
from cai_assets.lineage.snapshots import VERSIONS
from cai_assets.lineage.targets import CHECKPOINTS, every_record
from cai_assets.lineage.trace import to_json, trace, trace_record

TABLES = ("prompts", "initial_responses", "starting_responses", "critiques", "revisions", "response_pairs",
          "preference_pairs")


class Made:
    """``said``: the JSON of every checkpoint record's trace, and of every checkpoint folder's, when it was new."""

    def __init__(self, root: Path) -> None:
        self.history = History(root, tiny_model(root / "tiny"))
        self.data = root / "data"
        self.layout = Layout(self.data)
        self.said: dict[str, str] = {}
        self.versions: list[str] = []
        self._live()

    def _live(self) -> None:
        h = self.history
        first = h.constitution
        self.step()
        self.edit(critique="Say what is wrong, once more.")
        self.edit(preference="Which of the two is better?")
        h.settings = {**h.settings, "generation": {"max_tokens": 24}}
        self.step()
        changed, h.constitution = h.constitution, first
        more = {**h.settings["prompts"], "red_team": 8}
        h.settings = {**h.settings, "generation": {"max_tokens": 32}, "prompts": more}
        self.step()
        h.constitution = changed.model_copy(update={"principles": (*changed.principles, Principle(
            id="new-one", critique="Criticise anew.", revision="Revise anew.", preference="Prefer anew."))})
        self.step()
        Archive(self.layout).archive(self.versions[1])
        for number in (2, 3):
            self.step(f"-r{number}")

    def edit(self, **change: str) -> None:
        principles = list(self.history.constitution.principles)
        principles[1] = principles[1].model_copy(update=change)
        self.history.constitution = self.history.constitution.model_copy(update={"principles": tuple(principles)})
        self.step()

    def step(self, later_round: str = "") -> None:
        project = self.history.project(self.data)
        key = project.snapshots.register(self.history.constitution) + later_round
        with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "_run", copy_instead_of_training)
            instance.add_dynamic_partitions(VERSIONS, [key])
            overrides = {**self.history.settings, "data_root": str(self.data)}
            assert materialise(instance, key, overrides=overrides).success
        self.versions.append(key)
        for record in every_record(self.layout, CHECKPOINTS):
            if record.ref.id not in self.said:
                self.said[record.ref.id] = to_json(trace_record(self.layout, record).lineage)
                self.said.setdefault(record.digest, to_json(trace(self.layout, record.digest).lineage))


@cache
def made() -> Made:
    """The history, made when it is first asked for."""
    root = Path(tempfile.mkdtemp(prefix="cai-history-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return Made(root)


@cache
def plain(record_id: str) -> Plain:
    """The recomputation of one record, made once."""
    return Plain(made().data, record_id)


@contextmanager
def flipped(path: Path, at: int | None = None) -> Iterator[None]:
    """The file with one bit of one byte changed: in the middle, or at ``at``."""
    before = path.read_bytes()
    data = bytearray(before)
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(bytes(data))
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """The file away for a while."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


class Plain:
    """What one record stands on, recomputed with loops from the files alone."""

    def __init__(self, data: Path, record_id: str) -> None:
        self.data = data
        self.records: dict[str, dict[str, Any]] = {}
        self._ancestry: dict[str, set[str]] = {}
        self._walk(record_id)
        self.nodes: dict[str, dict[str, Any]] = {}
        for record in sorted(self.records.values(), key=lambda r: TABLES.index(r["asset"]) if r["asset"] in TABLES
                             else len(TABLES)):
            if record["asset"] in TABLES:
                self._read(record["asset"], pl.read_parquet(data / record["path"]))
        self.trained = {name: self._trained(r) for name, r in self.records.items() if r["asset"] in CHECKPOINTS}

    def _walk(self, record_id: str) -> None:
        if record_id in self.records:
            return
        record = json.loads((self.data / "records" / f"{record_id}.json").read_text())
        self.records[record_id] = record
        for ref in record["inputs"]:
            self._walk(f"{ref['asset']}/{ref['partition'] or 'all'}/{ref['number']:06d}")

    def _read(self, asset: str, table: pl.DataFrame) -> None:
        for r in table.iter_rows(named=True):
            if asset == "prompts":
                self._add(r["prompt_id"], [], {"prompt_id": r["prompt_id"]})
            elif asset == "response_pairs":
                for side in "ab":
                    self._add(r[f"row_id_{side}"], [r["prompt_id"]], {"key": r[f"row_key_{side}"]})
            elif asset == "preference_pairs":
                self._add(r["row_id"], [r["row_id_a"], r["row_id_b"]],
                          {"principle": r["principle_id"], "p": r["p_chosen"]})
            else:
                parent = r.get("parent_id") or r["prompt_id"]
                self._add(r["row_id"], [parent], {"principle": r.get("principle_id"), "key": r["row_key"]})

    def _add(self, row_id: str, parents: list[str], about: dict[str, Any]) -> None:
        self.nodes.setdefault(row_id, {"parents": parents, **about})

    def _input(self, record: dict[str, Any], asset: str) -> pl.DataFrame:
        (ref,) = [i for i in record["inputs"] if i["asset"] == asset]
        name = f"{asset}/{ref['partition'] or 'all'}/{ref['number']:06d}"
        return pl.read_parquet(self.data / self.records[name]["path"])

    def _trained(self, record: dict[str, Any]) -> list[str]:
        asset = record["asset"]
        if asset == "sl_policy":
            return self._input(record, "sl_dataset")["row_id"].to_list()
        if asset == "reward_model":
            labels = self._input(record, "preference_pairs")
            return [r["row_id"] for r in labels.iter_rows(named=True) if r["p_a"] not in {None, 0.5}]
        if asset == "rl_policy":
            return sorted(set(self._input(record, "response_pairs")["prompt_id"]))
        train = self._input(record, "initial_responses").filter(pl.col("split") == "train")
        return [r["row_id"] for r in train.iter_rows(named=True) for _ in range(3 if r["kind"] == "red-team" else 1)]

    def ancestry(self, row_id: str) -> set[str]:
        """A row and all it came from."""
        if row_id not in self._ancestry:
            self._ancestry[row_id] = self._up(row_id)
        return self._ancestry[row_id]

    def _up(self, row_id: str) -> set[str]:
        found, waiting = set[str](), [row_id]
        while waiting:
            here = waiting.pop()
            found.add(here)
            waiting += [p for p in self.nodes[here]["parents"] if p not in found]
        return found

    def rows(self) -> set[str]:
        return {a for ids in self.trained.values() for i in ids for a in self.ancestry(i)}

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Completion tokens by row key."""
        found: dict[str, int] = {}
        for shard in sorted(self.data.glob("rows/*/*.parquet")):
            for key, n in pl.read_parquet(shard).select("row_key", "completion_tokens").iter_rows():
                found.setdefault(key, n)
        return found

    def principles(self) -> dict[str, dict[str, Any]]:
        """Counts by principle, over the supervised rows and labels of every checkpoint above."""
        tokens, out = self.tokens, defaultdict(lambda: defaultdict(list))
        policies = {"sl_policy", "sft_baseline"}
        supervised = {n: ids for n, ids in self.trained.items() if self.records[n]["asset"] in policies}
        times: dict[str, int] = defaultdict(int)
        for ids in supervised.values():
            for i in set(ids):
                times[i] = max(times[i], ids.count(i))
        for i, n in times.items():
            out[self.nodes[i].get("principle")]["rows"] += [i] * n
            out[self.nodes[i].get("principle")]["text"] += [tokens[self.nodes[i]["key"]]] * n
            for p in {self.nodes[a].get("principle") for a in self.ancestry(i)}:
                out[p]["chain_rows"] += [i] * n
        labels = {i for n, ids in self.trained.items() if self.records[n]["asset"] == "reward_model" for i in ids}
        for i in labels:
            out[self.nodes[i]["principle"]]["labels"].append(self.nodes[i]["p"])
        return out
