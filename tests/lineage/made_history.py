"""A history made once and read by several tests: twelve versions by random edits, each with settings of its own, one
archived, one made again; three rounds, the last two beside more than a hundred partitions. Beside it, what every
record's trace said on the day it was made, and a plain recomputation."""

from __future__ import annotations

import atexit
import json
import random
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
from histories import START, History, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.assets import CALLED, CHECKPOINTS, needed
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.draw import draw, label_key
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.lineage.principles import ALL_AT_ONCE
from cai_assets.lineage.targets import every_record
from cai_assets.lineage.trace import to_json, trace, trace_record
from cai_assets.store.layout import Layout
from cai_assets.versions.archive import Archive
from cai_assets.versions.snapshots import VERSIONS

TABLES = ("prompts", *CALLED)
VERSIONS_MADE, SEED, MORE_PARTITIONS = 12, 7, 101
TRACED = needed("rl_policy", "sft_baseline")
# What a version is made with beside the random edits, by its number.
SETTINGS: dict[int, dict[str, Any]] = {
    3: {"labels": {"principles": "vote"}}, 4: {"critique": {"rounds": 3, "shuffle": True}},
    5: {"rl": {"reward": "labeller"}}, 6: {"labels": {"principles": "all"}}, 7: {"rl": {"algorithm": "dpo"}},
    8: {"pairs": {"source": "revision"}},
    9: {"rl": {"algorithm": "dpo", "reward": "labeller"}},
}


class Made:
    """``said``: the JSON of every checkpoint record's trace, and of every checkpoint folder's, when it was new.

    ``versions``: as they were made, the last two the rounds 2 and 3 of the third last.
    """

    def __init__(self, root: Path) -> None:
        self.history = History(root, tiny_model(root / "tiny"))
        self.data = root / "data"
        self.layout = Layout(self.data)
        self.said: dict[str, str] = {}
        self.versions: list[str] = []
        self.partitions: list[str] = []
        self._live()

    def _live(self) -> None:
        h, rng = self.history, random.Random(SEED)
        first = (h.constitution, h.settings)
        self.step(selection=())  # everything, the evaluation too
        for number in range(2, VERSIONS_MADE):
            while self.key in self.versions:
                h.change(rng)
            self.step(**SETTINGS.get(number, {}))
        Archive(self.layout).archive(self.versions[1])
        last = (h.constitution, h.settings)
        h.constitution, h.settings = first
        self.step()  # back to the first, which is there already
        h.constitution, h.settings = last
        self._register_more()
        principles = (*h.constitution.principles, Principle(
            id="new-one", critique="Criticise anew.", revision="Revise anew.", preference="Prefer anew."))
        h.constitution = h.constitution.model_copy(update={"principles": principles})
        for later_round in ("", "-r2", "-r3"):
            self.step(later_round)

    @property
    def key(self) -> str:
        return partition_key(self.history.constitution)

    def _register_more(self) -> None:
        snapshots = self.history.project(self.data).snapshots
        for number in range(MORE_PARTITIONS):
            other = START.model_copy(update={"name": f"other-{number}"})
            self.partitions.append(snapshots.register(other))

    def step(self, later_round: str = "", *, selection: tuple[str, ...] = TRACED, **settings: Any) -> None:
        project = self.history.project(self.data)
        key = project.snapshots.register(self.history.constitution) + later_round
        self.partitions.append(key)
        with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "_run", copy_instead_of_training)
            instance.add_dynamic_partitions(VERSIONS, list(dict.fromkeys(self.partitions)))
            overrides = {**self.history.settings, **settings, "data_root": str(self.data)}
            assert materialize(instance, key, selection=selection, overrides=overrides).success
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
                voters = [v["principle_id"] for v in r["votes"]] if len(r["votes"] or ()) > 1 else [r["principle_id"]]
                self._add(r["row_id"], [r["row_id_a"], r["row_id_b"]],
                          {"principles": {v or ALL_AT_ONCE for v in voters}, "p": r["p_chosen"]})
            else:
                parents = [r.get("parent_id") or r["prompt_id"], *filter(None, [r.get("critique_id")])]
                self._add(r["row_id"], parents, {"principles": {r.get("principle_id")} - {None}, "key": r["row_key"]})

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
        if asset == "reward_model" or self.algorithm(record) == "dpo":
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

    @staticmethod
    def algorithm(record: dict[str, Any]) -> str:
        return str(record["settings"].get("rl", {}).get("algorithm", ""))

    def prompt(self, row_id: str) -> str:
        """The prompt that a row goes back to first."""
        here = row_id
        while self.nodes[here]["parents"]:
            here = self.nodes[here]["parents"][0]
        return here

    def snapshot(self, record: dict[str, Any]) -> Constitution:
        version = record["constitution"].removesuffix("-r2").removesuffix("-r3")
        text = (self.data / "constitutions" / f"{version}.json").read_bytes()
        return Constitution.model_validate_json(text, strict=False)

    def asks(self, principle: str | None) -> bool:
        """Whether the version has a principle that labels answer."""
        labels = next(r for r in self.records.values() if r["constitution"])
        return principle in {p.id for p in self.snapshot(labels).taking_part("preference")}

    @cached_property
    def graded(self) -> dict[str, dict[str, str]]:
        """By checkpoint that the labeler rewarded: the principle by whose request it graded responses to a prompt."""
        found = {}
        for name, record in self.records.items():
            if record["settings"].get("rl", {}).get("reward") == "labeller":
                asked = self.snapshot(record).taking_part("preference")
                details = pl.read_parquet(self.data / record["details"]["training_rows"])
                held_out = set(details.filter("held_out")["prompt_id"])
                prompts = held_out if self.algorithm(record) == "dpo" else set(details["prompt_id"])
                found[name] = {p: draw(asked, label_key(p)).id for p in prompts}
        return found

    @cached_property
    def totals(self) -> dict[str, int]:
        """Supervised rows, their tokens, labels, and graded prompts."""
        labels, times = self._used()
        text = sum(self.tokens[self.nodes[i]["key"]] * n for i, n in times.items())
        graded = {p for prompts in self.graded.values() for p in prompts}
        return {"rows": sum(times.values()), "text": text, "labels": len(labels), "graded": len(graded)}

    def _used(self) -> tuple[set[str], dict[str, int]]:
        """Labels, and supervised rows with how often a checkpoint was trained on them at most."""
        times: dict[str, int] = defaultdict(int)
        for ids in self.trained.values():
            for i in set(ids):
                times[i] = max(times[i], ids.count(i))
        labels = {i for i in times if "p" in self.nodes[i]}
        return labels, {i: n for i, n in times.items() if i not in labels and "key" in self.nodes[i]}

    def principles(self) -> dict[str, dict[str, Any]]:
        """Counts by principle, over the supervised rows, labels and graded prompts of every checkpoint above."""
        out: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(list))
        labels, times = self._used()
        for i, n in times.items():
            for p in self.nodes[i]["principles"]:
                out[p]["rows"] += [i] * n
                out[p]["text"] += [self.tokens[self.nodes[i]["key"]]] * n
            for p in {p for a in self.ancestry(i) for p in self.nodes[a].get("principles", ())}:
                out[p]["chain_rows"] += [i] * n
        for i in labels:
            for p in self.nodes[i]["principles"]:
                out[p]["labels"].append(self.nodes[i]["p"])
        for prompt, p in {x for prompts in self.graded.values() for x in prompts.items()}:
            out[p]["graded"].append(prompt)
        return out
