"""The laws under every way of critiquing, and with general conversations mixed in.

A plan bounds its run, an incremental run equals a rebuild, and every round of every chain is a row that has a text or
says why not.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from histories import ROUNDS, History, latest

from cai_assets.assets import needed
from cai_assets.defs.execute import materialize
from cai_assets.plan.plan import Plan, make_plan
from cai_assets.steps.hygiene import KINDS
from cai_assets.store.garbage import gc
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.versions.snapshots import VERSIONS

HALF = needed("sl_policy", "sft_baseline")
# The scripted engine's verdicts lie between 0.33 and 0.67.
MODES: tuple[dict[str, Any], ...] = (
    {"stop_above": 0.55}, {"mode": "direct"}, {"mode": "direct", "stop_above": 0.55}, {"shuffle": True},
    {"shuffle": True, "stop_above": 0.55}, {"stop_above": 0.6, "style": "plain", "few_shots": False}, {},
)


def run(history: History, root: Path) -> tuple[str, dg.ExecuteInProcessResult]:
    """Materialize the supervised half; return the version and the run."""
    version = history.project(root).snapshots.register(history.constitution)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        overrides = {**history.settings, "data_root": str(root)}
        done = materialize(instance, version, selection=HALF, overrides=overrides)
    assert done.success
    return version, done


def digests(root: Path, version: str) -> dict[str, str]:
    return {asset: latest(root, asset, version).digest for asset in HALF}


def made(root: Path, asset: str, version: str) -> tuple[Record, pl.DataFrame]:
    record = latest(root, asset, version)
    return record, Records(Layout(root)).table(record)


def check_held(plan: Plan, root: Path) -> None:
    for line in (x for x in plan.lines if x.asset in HALF):
        record = latest(root, line.asset, plan.version)
        assert record.failed == 0, line
        assert line.generate_min <= record.generated <= line.generate_max, (line, record.generated)
        if line.training:
            wanted = {"reuse": {True}, "train": {False}}.get(line.training, {True, False})
            assert record.details["reused_checkpoint"] in wanted, line


def check_rows(root: Path, version: str, mode: dict[str, Any]) -> None:
    (said, critiques), (revised, revisions) = (made(root, a, version) for a in ("critiques", "revisions"))
    _, responses = made(root, "starting_responses", version)
    chains = responses.filter(pl.col("split") == "train", pl.col("kind") == "red-team").height
    assert critiques.height == revisions.height == ROUNDS * chains
    assert critiques["error"].null_count() == revisions["error"].null_count() == critiques.height
    for table, text in ((critiques, "critique"), (revisions, "revision")):
        assert (table[text].is_null() == table["stopped"].is_not_null()).all()
        assert ((table["row_key"] == "") == table[text].is_null()).all()
    calls = critiques["critique"].count() + critiques["row_key_verdict"].count()
    assert said.reused + said.generated == calls
    assert revised.reused + revised.generated == revisions["revision"].count()
    answered = revisions.filter(pl.col("critique_of").is_not_null())
    assert answered.height == (0 if mode.get("mode") == "direct" else revisions["revision"].count())
    assert (answered["critique_of"] != answered["prompt_id"]).all() or not mode.get("shuffle")
    assert critiques["p_done"].count() == critiques["row_key_verdict"].count()
    assert (critiques["p_done"].count() > 0) == ("stop_above" in mode)


def step(history: History, mode: dict[str, Any], data: Path) -> str:
    history.settings = {**history.settings, "critique": {"rounds": ROUNDS, **mode}}
    project = history.project(data)
    plan = make_plan(project, project.snapshots.register(history.constitution))
    version, _ = run(history, data)
    check_held(plan, data)
    check_rows(data, version, mode)
    again = [x for x in make_plan(history.project(data), version).lines if x.asset in HALF]
    assert {line.generate_max for line in again} == {0}, again
    assert {line.training for line in again} == {"", "reuse"}
    return version


@pytest.mark.long
def test_a_history_of_modes_equals_a_rebuild_at_every_step(history: History) -> None:
    rng = random.Random(0)
    data = history.root / "data"
    modes = rng.sample(MODES, 3)
    for number, mode in enumerate([*modes, modes[0]]):
        version = step(history, mode, data)
        fresh = history.root / f"fresh-{number}"
        assert run(history, fresh)[0] == version
        assert digests(data, version) == digests(fresh, version), mode
        shutil.rmtree(fresh)
        while history.change(rng) in {"crash", "edit preference"}:
            pass


@pytest.mark.parametrize("mode", MODES[:5], ids=str)
def test_the_plan_of_a_first_run_bounds_it(history: History, mode: dict[str, Any]) -> None:
    history.settings = {**history.settings, "prompts": {**history.settings["prompts"], "red_team": 9}}
    data = history.root / "data"
    version = step(history, mode, data)
    _, revisions = made(data, "revisions", version)
    if mode.get("stop_above"):
        assert 0 < revisions["stopped"].count() < revisions.height
    garbage = gc(Layout(data), Records(Layout(data)), apply=False, grace=0)
    assert [g for g in garbage if g.kind == "rows"] == []


def test_general_rows_train_both_policies_and_the_plan_knows(history: History) -> None:
    path = history.root / "general.jsonl"
    topics = itertools.product(("Boil", "Plant", "Paint", "Mend", "Fold"), ("an egg", "a tree", "the wall", "a sock"))
    rows = [{"prompt": f"{a} {b}: how is it done?", "response": f"{a} {b} with care."} for a, b in topics]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    history.settings = {**history.settings, "supervised": {"mix": [{"path": str(path), "share": 0.3}]}}
    data = history.root / "data"
    version = step(history, {}, data)
    _, rows = made(data, "sl_dataset", version)
    general = rows.filter(pl.col("kind") == "general")
    assert general.height / rows.height == pytest.approx(0.3, abs=0.02)
    assert latest(data, "sft_baseline", version).rows == rows.height
    more = {"mix": [{"path": str(path), "share": 0.4}]}
    history.settings = {**history.settings, "supervised": more}
    plan = make_plan(history.project(data), version)
    assert plan.line("sl_policy").training == plan.line("sft_baseline").training == "train"
    step(history, {}, data)
    _, rows = made(data, "sl_dataset", version)
    assert set(general["row_id"]) < set(rows["row_id"])


def test_each_kind_of_fault_is_a_check_of_the_version_with_its_counts(history: History) -> None:
    version, done = run(history, history.root / "data")
    checks = {c.check_name: c for c in done.get_asset_check_evaluations() if c.asset_key.path == ["sl_dataset"]}
    assert set(KINDS) < set(checks)
    assert not checks["boilerplate"].passed  # the scripted engine knows two sentences for each kind of text
    assert checks["prefix_leakage"].passed
    assert {checks[k].severity for k in KINDS} == {dg.AssetCheckSeverity.WARN}
    _, revisions = made(history.root / "data", "revisions", version)
    unchanged = revisions.filter(pl.col("revision") == pl.col("before")).height
    found = checks["revision_unchanged"]
    assert found.description == f"{unchanged} of {revisions.height} rows of revisions"
    assert found.metadata["share_of_revisions"].value == pytest.approx(unchanged / revisions.height, abs=1e-4)
    assert "| revisions |" in str(found.metadata["findings"].value)
    (made_of,) = done.asset_materializations_for_node("sl_dataset")
    assert made_of.metadata["chains_without_a_revision"].value == 0
