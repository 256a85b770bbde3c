"""Lost calls: nothing is trained on what is left, so that the run that fills the gaps does not train again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from histories import START, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.engines import scripted
from cai_assets.engines.protocol import Call, Request
from cai_assets.engines.scripted import Scripted, default_reply
from cai_assets.pipeline.project import Project
from cai_assets.store.records import Record, RecordMissing
from cai_assets.versions.snapshots import VERSIONS

Fails = Callable[[str], bool]
LOST = "initial_responses: 3 of 20 calls lost: scripted failure. .*accept_loss"
TRAININGS = ("sft_baseline", "sl_policy", "reward_model", "rl_policy")


def some() -> Fails:
    """The first three calls, which are initial responses."""
    seen = set[str]()

    def fails(key: str) -> bool:
        seen.update([key] * (len(seen) < 3))
        return key in seen

    return fails


class World:
    """A data root and an instance whose calls fail by ``lost`` or are refused by ``refused``, by key."""

    def __init__(self, root: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance, self.monkeypatch = instance, monkeypatch
        self.settings: dict[str, Any] = {
            "data_root": str(root / "data"), "critique": {"rounds": 1}, "gate": {"enforce": False, "pairs": 4},
            "models": {"generator": {"source": str(tiny_model(root / "tiny")), "backend": "scripted"}},
            "prompts": {"red_team": 12, "helpful": 4, "eval_red_team": 2, "eval_helpful": 2},
        }
        self.version = self.project.snapshots.register(START)
        instance.add_dynamic_partitions(VERSIONS, [self.version])

    @property
    def project(self) -> Project:
        return Project.open(self.settings)

    def run(self, *selection: str, lost: Fails = lambda _: False, refused: Fails = lambda _: False,
            **settings: Any) -> dg.ExecuteInProcessResult:
        def reply(call: Call, request: Request) -> str:
            if refused(request.row_key):
                raise ValueError("too long")
            return default_reply(call, request)

        def engine(name: str = "scripted", **more: Any) -> Scripted:
            return Scripted(name, fail=lost, reply=reply, **more)

        chosen = selection or ("prompts", "initial_responses", "constitution", "starting_responses", "critiques",
                               "revisions", "sl_dataset", "response_pairs", "preference_pairs", *TRAININGS)
        with self.monkeypatch.context() as patch:
            patch.setattr(scripted, "Scripted", engine)
            return materialize(self.instance, self.version, selection=chosen,
                               overrides={**self.settings, **settings})

    def made(self, asset: str) -> Record | None:
        try:
            return self.project.records.latest(asset, None if asset == "sft_baseline" else self.version)
        except RecordMissing:
            return None


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance, monkeypatch)


def why(result: dg.ExecuteInProcessResult, step: str) -> str:
    data = result.failure_data_for_node(step)
    assert data
    assert data.user_failure_data
    return str(data.user_failure_data.description)


def test_nothing_is_trained_on_the_rest_and_the_next_run_trains_once(world: World) -> None:
    result = world.run(lost=some())
    assert not result.success
    assert [world.made(name) for name in TRAININGS] == [None] * 4
    (check,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "nothing_is_lost"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert re.match(LOST, str(check.description))
    assert "accept_loss" in why(result, "sft_baseline")
    alone = why(world.run("sl_policy"), "sl_policy")
    assert re.match(f"nothing is trained on what is left: {LOST}", alone)
    assert world.run().success
    assert [record.number for name in TRAININGS if (record := world.made(name))] == [1] * 4


def test_what_is_accepted_is_trained_on(world: World) -> None:
    assert world.run(lost=some(), accept_loss=0.2).success
    assert all(world.made(name) for name in TRAININGS)
    assert not world.run("sl_policy", sl={"epochs": 2.0}, accept_loss=2).success
    assert world.run("sl_policy", sl={"epochs": 2.0}, accept_loss=3).success


def test_what_is_refused_for_what_it_is_is_no_loss(world: World) -> None:
    assert world.run(refused=some()).success
    record = world.project.records.latest("initial_responses", None)
    assert record.failed == record.details["refused"] == 3
    assert all(world.made(name) for name in TRAININGS)


def test_a_served_policy_is_refused_before_the_first_call(world: World) -> None:
    models = {"generator": {"source": "elsewhere", "base_urls": ["http://127.0.0.1:9/v1"]}}
    result = world.run(models=models)
    assert not result.success
    assert result.get_step_success_events() == []
    assert world.made("initial_responses") is None
    (ended,) = result.filter_events(lambda e: e.is_job_failure)
    assert "models.policy: elsewhere is served elsewhere" in str(ended.job_failure_data)
    assert world.run("prompts", models=models).success
