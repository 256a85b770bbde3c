"""The whole graph on the scripted engine and tiny models: real trainers, a real instance, no real model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from patience import Watch, run, until
from tiny_models import tiny_model

from cai_assets.assets import CHECKPOINTS, OPTIONAL, ORDER, SPENDING, partition_of
from cai_assets.constitution.load import load_file
from cai_assets.defs.execute import materialize
from cai_assets.pipeline.project import Project
from cai_assets.plan.lines import Line
from cai_assets.plan.plan import make_plan
from cai_assets.plan.why import why_asset, why_row
from cai_assets.reports.summary import summary
from cai_assets.settings import SettingsError
from cai_assets.store.garbage import sweep
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records
from cai_assets.versions.snapshots import VERSIONS, Snapshots

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.model
TRAINED = set(CHECKPOINTS) - set(OPTIONAL)


class World:
    """A data root, an instance, and a registered constitution."""

    def __init__(self, root: Path) -> None:
        self.root = root
        model = {"source": str(tiny_model(root / "tiny")), "backend": "scripted"}
        quick = {"max_length": 64}
        self.overrides: dict[str, Any] = {
            "data_root": str(root / "data"), "models": {"generator": model}, "generation": {"max_tokens": 16},
            "prompts": {"red_team": 10, "helpful": 3, "eval_red_team": 4, "eval_helpful": 3},
            "sl": quick, "reward": quick, "rl": {**quick, "steps": 2, "max_tokens": 8},
        }
        self.records = Records(Layout(root / "data"))
        (root / "dagster").mkdir()
        self.instance = dg.DagsterInstance.local_temp(str(root / "dagster"))

    def register(self, name: str, **edits: str) -> str:
        constitution = load_file(REPOSITORY / "constitutions" / f"{name}.yaml")
        changed = tuple(p.model_copy(update={"critique": edits.get(p.id, p.critique)}) for p in constitution.principles)
        key = Snapshots(Layout(self.root / "data")).register(constitution.model_copy(update={"principles": changed}))
        self.instance.add_dynamic_partitions(VERSIONS, [key])
        return key

    def run(self, version: str, *selection: str, **overrides: Any) -> dg.ExecuteInProcessResult:
        return materialize(self.instance, version, selection=selection, overrides={**self.overrides, **overrides})

    @property
    def project(self) -> Project:
        return Project.open(self.overrides)

    def lines(self, version: str) -> dict[str, Any]:
        return {line.asset: line for line in summary(self.project, version)}

    def plan(self, version: str) -> dict[str, Line]:
        return {line.asset: line for line in make_plan(self.project, version).lines}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    made.version = made.register("customer-service")  # type: ignore[attr-defined]
    made.first_plan = made.plan(made.version)  # type: ignore[attr-defined]
    result = made.run(made.version)  # type: ignore[attr-defined]
    assert result.success
    made.first_lines = made.lines(made.version)  # type: ignore[attr-defined]
    yield made
    made.instance.dispose()


def test_every_asset_is_materialized_and_every_row_accounted_for(world: World) -> None:
    lines = world.lines(world.version)
    assert list(lines) == list(ORDER)
    assert {a for a, line in lines.items() if line.made == "trained"} == TRAINED
    assert sum(line.failed for line in lines.values()) == 0
    assert (lines["prompts"].rows, lines["initial_responses"].rows) == (20, 20)
    assert lines["critiques"].rows == lines["revisions"].rows == 20
    assert lines["sl_dataset"].rows == 23
    assert lines["response_pairs"].rows == lines["preference_pairs"].rows == 13


def test_the_baseline_is_trained_where_no_model_has_to_be_loaded_again_for_it(world: World) -> None:
    created = {a: world.records.latest(a, partition_of(a, world.version)).created for a in ORDER}
    assert created["initial_responses"] < created["critiques"] < created["rl_policy"] < created["sft_baseline"]
    assert created["sft_baseline"] < created["evaluation"]


def test_a_checkpoint_is_a_complete_folder_that_differs_from_its_parent(world: World) -> None:
    from safetensors.torch import load_file as load

    record = world.records.latest("rl_policy", world.version)
    parent = world.records.latest("sl_policy", world.version)
    folders = [world.root / "data" / r.path for r in (record, parent)]
    for folder in folders:
        names = {p.name for p in folder.iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer.json", "record.json", "README.md", "metrics.json",
                "curves.jsonl"} <= names
        assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl"))]
    made = json.loads((folders[0] / "record.json").read_text())
    assert made["key"] == record.digest
    assert made["base"]["weights"] == parent.digest
    weights = [load(f / "model.safetensors") for f in folders]
    assert any(not weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert str(world.root) not in (folders[0] / "README.md").read_text()


def test_a_second_run_generates_nothing_and_trains_nothing(world: World) -> None:
    before = {a: world.records.latest(a, partition_of(a, world.version)).digest for a in world.lines(world.version)}
    assert world.run(world.version).success
    lines = world.lines(world.version)
    assert sum(line.generated for line in lines.values()) == 0
    assert {a for a, line in lines.items() if line.made == "reused"} == TRAINED
    after = {a: world.records.latest(a, partition_of(a, world.version)).digest for a in before}
    assert after == before


def test_the_plan_of_a_first_run_holds_what_the_run_did(world: World) -> None:
    lines = world.first_lines
    assert set(world.first_plan) == set(SPENDING)
    for asset, planned in world.first_plan.items():
        done = lines[asset]
        assert planned.generate_min <= done.generated <= planned.generate_max, asset
        assert bool(planned.training) == (asset in TRAINED)
        assert planned.training != "reuse"
        spends = planned.seconds is not None and (planned.generate_max > 0 or planned.trains)
        assert planned.by_table == spends, "nothing was measured here yet"
    assert world.first_plan["initial_responses"].generate_min == lines["initial_responses"].generated
    assert world.first_plan["critiques"].generate_max == lines["critiques"].generated
    again = world.plan(world.version)
    assert sum(line.generate_max for line in again.values()) == 0
    assert {a for a, line in again.items() if line.training == "reuse"} == TRAINED


def test_a_changed_setting_is_named_as_the_cause(world: World) -> None:
    changed = Project.open({**world.overrides, "generation": {"max_tokens": 17}})
    lines = {line.asset: line for line in make_plan(changed, world.version).lines}
    assert lines["initial_responses"].causes == {"generation.max_tokens: 16 -> 17": 20}
    other = Project.open({**world.overrides, "rl": {**world.overrides["rl"], "beta": 0.5}})
    lines = {line.asset: line for line in make_plan(other, world.version).lines}
    assert {a for a, line in lines.items() if line.training == "train"} == {"rl_policy"}
    assert list(lines["rl_policy"].causes) == ["rl.beta: 0.05 -> 0.5"]


def test_an_edited_principle_runs_only_what_drew_it(world: World) -> None:
    critiques = world.records.table(world.records.latest("critiques", world.version))
    edited = critiques["principle_id"].mode()[0]
    version = world.register("customer-service", **{edited: "Say plainly what is wrong with this answer."})
    plan = world.plan(version)
    assert world.run(version, "constitution", "starting_responses", "critiques", "revisions").success
    hit = critiques.filter(pl.col("principle_id") == edited).group_by("prompt_id").agg(pl.col("round").min())
    lines = world.lines(version)
    assert lines["critiques"].reused > 0
    for asset in ("critiques", "revisions"):
        # Fewer than the most if some text comes out as it was: the change stops there.
        assert plan[asset].generate_min <= lines[asset].generated <= plan[asset].generate_max
        assert plan[asset].generate_max == int((3 - hit["round"]).sum())
        assert plan[asset].causes == {f"principle {edited} (edited)": plan[asset].generate_max}
    (first,) = hit.head(1).iter_rows(named=True)
    (difference,) = why_row(world.project, "critiques", version, f"{first['prompt_id']}:{first['round']}",
                            against=world.version)
    assert difference.field == "call.messages[0].content"
    assert "Say plainly what is wrong" in difference.now
    assert why_asset(world.project, "sl_policy", world.version, against=world.version) == []


def test_going_back_costs_nothing(world: World) -> None:
    assert world.run(world.version).success
    lines = world.lines(world.version)
    assert sum(line.generated for line in lines.values()) == 0
    assert {a for a, line in lines.items() if line.made == "reused"} == TRAINED
    note = world.instance.get_latest_materialization_event(dg.AssetKey("critiques"))
    assert note is not None
    assert note.asset_materialization is not None
    assert "generate 0, reuse 20; done: generated 0, reused 20" in str(note.asset_materialization.metadata["planned"])


def test_a_version_typed_by_hand_fails_with_a_message_that_helps(world: World) -> None:
    world.instance.add_dynamic_partitions(VERSIONS, ["typed-by-hand"])
    result = world.run("typed-by-hand", "constitution")
    failure = result.failure_data_for_node("constitution")
    assert not result.success
    assert failure is not None
    assert failure.error is not None
    assert "cai register" in str(failure.error.to_string())


def test_an_unknown_setting_stops_the_run_before_it_starts(world: World) -> None:
    with pytest.raises(SettingsError, match=r"rl\.betta: no such setting"):
        world.run(world.version, "prompts", rl={"betta": 1})


SCRIPT = """
import json, sys
import dagster as dg
from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
root, version, overrides, training = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
if training == "copies":
    from histories import copy_instead_of_training
    launch._run = copy_instead_of_training
with dg.DagsterInstance.local_temp(root) as instance:
    instance.add_dynamic_partitions("constitution_version", [version])
    sys.exit(not materialize(instance, version, selection=(), overrides=overrides).success)
"""


@pytest.mark.long
@pytest.mark.fault("kill -9 of a whole run, with and without its trainer")
@pytest.mark.parametrize(("moment", "training"), [("rows/critique/*", "copies"), ("work/*/job.json", "real")])
def test_killed_at_any_moment_the_next_run_completes(tmp_path: Path, moment: str, training: str) -> None:
    """In the middle of its rows, before anything is trained, and of a training run."""
    killed = World(tmp_path)
    version = killed.register("customer-service")
    killed.instance.dispose()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "dagster"), version, json.dumps(killed.overrides), training]
    folders = (REPOSITORY, REPOSITORY / "tests", REPOSITORY / "tests" / "defs")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    until(lambda: process.poll() or any((tmp_path / "data").glob(moment)), Watch(tmp_path, processes=[process.pid]))
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = run(command, tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(killed.lines(version)) == list(ORDER)
    assert sum(line.failed for line in killed.lines(version).values()) == 0
    sweep(killed.project.layout, grace=0)  # a file that it was writing lies there for a day, and then goes
    assert not [p for p in (tmp_path / "data").rglob("*.tmp") if p.is_file() and "work" not in p.parts]
