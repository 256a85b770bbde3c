"""The judge gate through the graph: what a failing labeler stops, what it does not, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from histories import START, copy_instead_of_training
from labellers import Score, first_place, right_in, write_comparisons
from tiny_models import tiny_model

from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.engines import scripted
from cai_assets.engines.scripted import Scripted
from cai_assets.pipeline.project import Project
from cai_assets.plan.plan import make_plan
from cai_assets.reports.feedback_cost import as_json, feedback_table, markdown
from cai_assets.store.garbage import gc
from cai_assets.store.records import RecordMissing
from cai_assets.versions.snapshots import VERSIONS

BLOCKS, WARNS = "labels_may_train", "labeller_agrees_with_people"


class World:
    """A data root and an instance whose labeler answers by ``score``."""

    def __init__(self, root: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance, self.monkeypatch = instance, monkeypatch
        model = {"source": str(tiny_model(root / "tiny")), "backend": "scripted"}
        self.settings: dict[str, Any] = {
            "data_root": str(root / "data"), "critique": {"rounds": 2},
            "models": {"generator": model, "labeller": {"source": "labeller", "backend": "scripted"}},
            "prompts": {"red_team": 6, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2},
            "gate": {"path": str(write_comparisons(root / "people.jsonl", 40)), "enforce": True, "pairs": 40},
        }
        self.version = self.project.snapshots.register(START)
        instance.add_dynamic_partitions(VERSIONS, [self.version])

    @property
    def project(self) -> Project:
        return Project.open(self.settings)

    def run(self, score: Score, *selection: str, **gate: Any) -> dg.ExecuteInProcessResult:
        def engine(name: str = "scripted", **kwargs: Any) -> Scripted:
            return Scripted(name, score=score if name == "labeller" else None, **kwargs)

        with self.monkeypatch.context() as patch:
            patch.setattr(scripted, "Scripted", engine)
            overrides = {**self.settings, "gate": {**self.settings["gate"], **gate}}
            return materialize(self.instance, self.version, selection=selection, overrides=overrides)

    def made(self, asset: str) -> bool:
        try:
            return bool(self.project.records.latest(asset, self.version))
        except RecordMissing:
            return False


def evaluation_of(result: dg.ExecuteInProcessResult, name: str = BLOCKS) -> dg.AssetCheckEvaluation:
    return next(e for e in result.get_asset_check_evaluations() if e.check_name == name)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance, monkeypatch)


def test_a_failing_labeller_trains_nothing_and_says_why(world: World) -> None:
    result = world.run(first_place)
    assert not result.success
    assert world.made("preference_pairs")
    assert not world.made("reward_model")
    assert not world.made("rl_policy")
    found = evaluation_of(result)
    assert (found.passed, found.blocking, found.severity) == (False, True, dg.AssetCheckSeverity.ERROR)
    assert "prefers a position" in str(found.description)
    assert found.metadata["consistency"].value == 0
    alone = world.run(first_place, "reward_model")
    assert not alone.success
    assert not world.made("reward_model")
    (failure,) = [e for e in alone.all_events if e.is_step_failure]
    assert "prefers a position" in str(failure.event_specific_data)
    assert "gate.enforce=false" in str(failure.event_specific_data)


def test_unenforced_it_only_warns(world: World) -> None:
    result = world.run(first_place, enforce=False)
    assert result.success
    assert world.made("rl_policy")
    warned, held = evaluation_of(result, WARNS), evaluation_of(result, BLOCKS)
    assert (warned.passed, warned.severity, warned.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert held.passed
    assert "not enforced" in str(held.description)
    assert not world.run(first_place, "reward_model").success  # the threshold set now decides, not the one set then


def test_a_labeller_that_agrees_trains_and_the_plan_counts_its_calls(world: World) -> None:
    plan = make_plan(world.project, world.version).line("preference_pairs")
    assert plan.generate_min == 80
    assert plan.causes["the labeller's agreement with people is measured"] == 80
    result = world.run(right_in(0.95))
    assert result.success
    assert evaluation_of(result).passed
    record = world.project.records.latest("preference_pairs", world.version)
    assert plan.generate_min <= record.generated <= plan.generate_max
    assert record.details["gate"]["n"] == 40
    assert gc(world.project.layout, world.project.records, apply=True, grace=0) == []  # the gate's rows are named too
    assert make_plan(world.project, world.version).line("preference_pairs").generate_max == 0


def test_the_feedback_table_says_what_is_measured_and_what_is_assumed(world: World) -> None:
    world.run(right_in(0.95))
    priced = Project.open({**world.settings, "price_per_gpu_hour": 2.0, "price_per_human_hour": 15.0,
                           "human_labels_per_hour": 60})
    table = {line.quantity: line for line in feedback_table(priced, world.version)}
    cost = table["cost of 1,000 labels"]
    assert cost.people == "250"  # 1,000 labels take a person 16.7 hours
    seconds = 1000 / float(table["labels per second"].ai)
    assert float(cost.ai) == pytest.approx(seconds / 3600 * 2, rel=0.01)
    assert "price_per_human_hour=15" in cost.basis
    assert "without a GPU" in cost.basis
    assert "assumption" in table["labels per second"].basis
    assert "measured by the judge gate on 40" in table["agreement with people"].basis
    assert table["agreement with people"].people == "not known"
    assert "[" in table["same label after a swap"].ai
    unpriced = {line.quantity: line for line in feedback_table(world.project, world.version)}
    assert (unpriced["cost of 1,000 labels"].ai, unpriced["cost of 1,000 labels"].people) == ("not known", "not known")
    assert markdown(list(table.values())).count("\n") == len(table) + 1
    assert {row["quantity"] for row in as_json(list(table.values()))} == set(table)
