"""Every source of pairs and every way to label, through the graph: plans hold, and an edit touches what it must."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from histories import History, crash_somewhere

from cai_assets.assets import WITHOUT_VERSION, needed
from cai_assets.defs.execute import materialize
from cai_assets.plan.lines import Line
from cai_assets.plan.plan import make_plan
from cai_assets.store.records import Record
from cai_assets.versions.snapshots import VERSIONS

THOUGHTFUL = {"chain_of_thought": True, "samples": 2, "thought_tokens": 8}
MODES: dict[str, dict[str, Any]] = {
    "policy, all in one question": {
        "pairs": {"candidates": 3, "combine": "all", "temperatures": [0.5, 1.0]}, "labels": {"principles": "all"}},
    "generator, thoughtful": {"pairs": {"source": "generator", "helpful": False}, "labels": THOUGHTFUL},
    "revision, thoughtful vote": {
        "pairs": {"source": "revision"}, "labels": {"principles": "vote", "clamp": [0.4, 0.6], **THOUGHTFUL}},
}
WANTED = tuple(name for name in needed("preference_pairs") if name not in WITHOUT_VERSION)


@pytest.fixture
def history(history: History) -> History:
    history.settings = {**history.settings, "gate": {"enforce": False, "pairs": 4}, "critique": {"rounds": 2}}
    return history


class Step:
    """One materialization down to the labels, planned before."""

    def __init__(self, history: History, root: Path) -> None:
        project = history.project(root)
        self.records, self.version = project.records, project.snapshots.register(history.constitution)
        self.plan = {line.asset: line for line in make_plan(project, self.version).lines}
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(VERSIONS, [self.version])
            first = ("prompts", "initial_responses") if not project.records.every("initial_responses") else ()
            overrides = {**history.settings, "data_root": str(root)}
            assert materialize(instance, self.version, selection=(*first, *WANTED), overrides=overrides).success
        self.made = {a: project.records.latest(a, self.version) for a in WANTED}

    def record(self, asset: str) -> Record:
        return self.made[asset]

    def table(self, asset: str) -> pl.DataFrame:
        return self.records.table(self.record(asset))

    def planned_and_done(self) -> list[tuple[Line, Record]]:
        return [(line, self.made[asset]) for asset, line in self.plan.items()
                if asset in {"critiques", "revisions", "response_pairs", "preference_pairs"}]


def edit(history: History, use: str, i: int = 0) -> None:
    principles = list(history.constitution.principles)
    principles[i] = principles[i].model_copy(update={use: f"Another {use}, by another rule ({i})."})
    history.constitution = history.constitution.model_copy(update={"principles": tuple(principles)})


@pytest.mark.parametrize("mode", [
    mode if "vote" in mode else pytest.param(mode, marks=pytest.mark.long) for mode in MODES])
def test_a_run_stays_within_its_plan_and_equals_a_rebuild(
    history: History, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.settings = {**history.settings, **MODES[mode]}
    data = history.root / "data"
    steps = [Step(history, data)]
    edit(history, "critique", 0)
    edit(history, "preference", 1)
    steps.append(Step(history, data))
    edit(history, "preference", 2)
    crash_somewhere(history, random.Random(3), monkeypatch, history.root / "data")
    steps.append(Step(history, data))
    for step in steps:
        for line, record in step.planned_and_done():
            assert record.failed == 0, line
            assert line.generate_min <= record.generated <= line.generate_max, line
            assert sum(line.causes.values()) >= line.generate_max + line.trains, line  # every number is explained
    again = Step(history, data)
    assert all(line.generate_max == record.generated == 0 for line, record in again.planned_and_done())
    fresh = Step(history, history.root / "fresh")
    for asset in ("response_pairs", "preference_pairs"):
        assert fresh.record(asset).digest == again.record(asset).digest


def test_pairs_of_the_generator_do_not_depend_on_critique_principles(history: History) -> None:
    history.settings = {**history.settings, "pairs": {"source": "generator"}}
    data = history.root / "data"
    before = Step(history, data)
    edit(history, "critique")
    after = Step(history, data)
    assert after.record("critiques").generated > 0
    assert after.record("sl_policy").digest != before.record("sl_policy").digest
    for asset in ("response_pairs", "preference_pairs"):
        assert after.plan[asset].generate_max == after.record(asset).generated == 0
        assert after.record(asset).digest == before.record(asset).digest


def test_an_edited_critique_relabels_only_the_chains_it_touched(history: History) -> None:
    history.settings = {**history.settings, "pairs": {"source": "revision"}, "critique": {"rounds": 1},
                        "labels": {"principles": "all"}}
    data = history.root / "data"
    before = Step(history, data)
    edit(history, "critique")
    drew = set(before.table("revisions").filter(principle_id=history.constitution.principles[0].id)["prompt_id"])
    after = Step(history, data)
    pairs = before.table("response_pairs").join(after.table("response_pairs"), on="pair_id", suffix="_after")
    changed = pairs.filter((pl.col("response_a") != pl.col("response_a_after"))
                           | (pl.col("response_b") != pl.col("response_b_after")))
    assert 0 < len(drew) < pairs.height
    assert set(changed["prompt_id"]) <= drew
    assert after.record("preference_pairs").generated == 2 * changed.height
    assert after.record("response_pairs").generated == 0


def test_changing_the_clamp_calls_no_model_and_changes_the_targets(history: History) -> None:
    data = history.root / "data"
    before = Step(history, data)
    history.settings = {**history.settings, "labels": {"clamp": [0.49, 0.51]}}
    after = Step(history, data)
    assert after.plan["preference_pairs"].generate_max == after.record("preference_pairs").generated == 0
    assert after.table("preference_pairs")["p_a"].equals(before.table("preference_pairs")["p_a"])
    assert after.table("preference_pairs")["p_target"].is_between(0.49, 0.51).all()
    assert after.record("preference_pairs").digest != before.record("preference_pairs").digest
