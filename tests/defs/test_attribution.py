"""``cai attribute`` through the real graph, where one principle is known to do it all.

One world for all tests, in their order: each goes on from where the one before left off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from planted import CONSTITUTION, GUARDED, REQUESTS, UNGUARDED, build, enter
from typer.testing import CliRunner, Result

from cai_assets.cli import app
from cai_assets.cli.attribute import _left
from cai_assets.constitution.derive import only, without
from cai_assets.constitution.digest import partition_key
from cai_assets.engines.scripted import Scripted
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records
from cai_assets.versions.snapshots import VERSIONS, Snapshots

VERSION = partition_key(CONSTITUTION)
GUARD, WARM = without(CONSTITUTION, "guard"), without(CONSTITUTION, "warm")


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    build(root)
    return root


@pytest.fixture
def planted(world: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data root."""
    enter(world, instance, monkeypatch)
    return world / "data"


def cai(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def table(root: Path, version: str = VERSION) -> pl.DataFrame:
    records = Records(Layout(root))
    return records.table(records.latest("attribution", version))


def trainings(root: Path) -> set[str]:
    return {p.name for p in (root / "checkpoints").glob("*/*")}


@pytest.fixture
def attributed(planted: Path) -> Path:
    """The data root, with two principles left out in turn, whatever tests came before."""
    if not Records(Layout(planted)).every("attribution"):
        cai("register")
        cai("materialize", VERSION)
        cai("attribute", VERSION, "--principle", "guard", "--principle", "warm", "--yes")
    return planted


def test_the_planted_principle_is_found(
    planted: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cai("attribute", "planted", "--plan")
    assert "The whole version comes first; it is not made yet" in first.output
    assert json.loads(cai("attribute", "planted", "--plan", "--json").stdout) == {
        "version": VERSION, "lacks": "not made yet", "plan": []}
    cai("materialize", VERSION)
    before = table(planted)
    assert before["state"].to_list() == ["not registered"] * 3
    assert before["delta"].null_count() == 3
    made = trainings(planted)

    plan = json.loads(cai("attribute", VERSION, "--plan", "--json").stdout)["plan"]
    assert [p["version"] for p in plan] == [without(CONSTITUTION, p.id).key for p in CONSTITUTION.principles]
    assert all(p["trainings"] == 3 and p["lacks"] == "not made yet" for p in plan)
    assert sum(p["share"]["chains"] for p in plan) > 1
    assert instance.get_dynamic_partitions(VERSIONS) == Snapshots(Layout(planted)).known() == [VERSION]
    assert trainings(planted) == made
    assert cai("attribute", VERSION, code=1).exit_code == 1  # nobody answered the question
    assert instance.get_dynamic_partitions(VERSIONS) == [VERSION]

    found = cai("attribute", VERSION, "--principle", "guard", "--principle", "warm", "--yes")
    assert "Without guard attack success rises by 0." in found.output
    assert "1 of 2 comparisons show no evidence of a difference in attack success" in found.output
    assert instance.get_dynamic_partitions(VERSIONS) == [VERSION, GUARD.key, WARM.key]
    rows = {r["principle"]: r for r in table(planted).to_dicts()}
    assert [rows[p]["state"] for p in ("guard", "warm", "brief")] == ["measured", "measured", "not registered"]
    guard, warm = rows["guard"], rows["warm"]
    assert (guard["verdict"], warm["verdict"]) == ("worse", "no difference seen")
    # Four standard errors; how often the interval covers the truth is tested on many draws in tests/evals.
    assert guard["delta"] == pytest.approx(GUARDED - UNGUARDED, abs=4 * (0.25 / REQUESTS) ** 0.5)
    assert warm["low"] <= 0 <= warm["high"]
    assert (guard["n"], guard["unpaired"], guard["kept"]) == (REQUESTS, 0, [])

    # What the plan said is what was made.
    records = Records(Layout(planted))
    for p in plan[:2]:
        chain = sum(records.latest(a, p["version"]).generated for a in ("critiques", "revisions"))
        assert 0 < chain <= p["chain_rows"]
        checkpoints = [records.latest(a, p["version"]) for a in ("sl_policy", "reward_model", "rl_policy")]
        assert sum(not r.details["reused_checkpoint"] for r in checkpoints) <= p["trainings"]
    inputs = {ref.id.rpartition("/")[0] for ref in records.latest("attribution", VERSION).inputs}
    assert {f"suite_results/{v}" for v in (VERSION, GUARD.key, WARM.key)} <= inputs

    # Again: nothing runs, nothing is trained, the numbers are the same.
    made, calls = trainings(planted), []
    monkeypatch.setattr(Scripted, "run", lambda self, requests: calls.append(requests))
    again = json.loads(cai("attribute", VERSION, "--principle", "guard", "--yes", "--json").stdout)
    assert [p["lacks"] for p in again["plan"]] == [""]
    assert (trainings(planted), calls) == (made, [])
    effect = next(e for e in again["effects"] if e["principle"] == "guard" and e["suite"] == "all"
                  and (e["policy"], e["measure"]) == ("rl_policy", "attack_success"))
    assert effect["delta"] == guard["delta"]
    assert effect["p_holm"] <= 0.05
    page = Path(again["page"])
    assert "Without guard" in page.read_text()
    assert page.with_suffix(".md").exists()


@pytest.mark.long
def test_alone_again_with_another_seed_and_on_from_a_failure(
    attributed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = only(CONSTITUTION, "guard")
    serve = Scripted.run

    def dies(self: Scripted, requests: Any) -> Any:
        raise RuntimeError("the engine died")

    arguments = ("attribute", VERSION, "--principle", "guard", "--also-alone", "--null", "--yes")
    with monkeypatch.context() as patch:
        patch.setattr(Scripted, "run", dies)
        broken = cai(*arguments, code=1)
    assert "failed: the whole version again, seed +1, only guard." in " ".join(broken.output.split())
    monkeypatch.setattr(Scripted, "run", serve)
    result = cai(*arguments)
    rows = {(r["kind"], r["principle"]): r for r in table(attributed).to_dicts()}
    again = rows["again", None]
    assert (again["state"], again["seed"], again["verdict"]) == ("measured", 1, "no difference seen")
    assert (rows["without", "guard"]["verdict"], rows["without", "guard"]["beyond_again"]) == ("worse", True)
    assert (rows["only", "guard"]["version"], rows["only", "guard"]["verdict"]) == (alone.key, "better")
    assert "guard alone, against none: attack success falls by" in result.output
    assert "Rebuilding the whole version with another seed moved attack success by" in result.output
    # The whole version's own records are untouched by the other seed.
    records = Records(Layout(attributed))
    assert [r.number for r in records.every("rl_policy") if r.partition == VERSION] == [1]
    assert len(records.every("prompts")) == len(records.every("initial_responses")) == 1
    told = cai("attribute", alone.key, code=2)
    assert f"was itself derived from {VERSION}" in " ".join(told.output.split())
    assert "is a later round" in cai("attribute", f"{VERSION}-r2", code=2).output
    assert "no principle 'nobody'" in cai("attribute", VERSION, "--principle", "nobody", code=2).output


def test_time_left_is_of_the_plan_until_the_finished_ones_say_better() -> None:
    assert _left(0.0, 0.0, 0, [60.0, 120.0]) == " · about 3 min left"
    assert _left(120.0, 60.0, 1, [120.0]) == " · about 4 min left"  # they take twice as long as planned
    assert _left(0.0, 0.0, 0, [0.0, 60.0]) == ""  # of one, nothing is known
    assert _left(300.0, 0.0, 1, [0.0, 0.0]) == " · about 10 min left"


def test_a_changed_setting_is_no_comparison(attributed: Path) -> None:
    assert "measured" in table(attributed)["state"].to_list()
    changed = cai("attribute", VERSION, "--principle", "warm", "--plan", "-s", "generation.max_tokens=24")
    assert "it is made with other settings: generation.max_tokens" in " ".join(changed.output.split())
    cai("materialize", VERSION, "-s", "generation.max_tokens=24")
    row = table(attributed).filter(principle="warm").to_dicts()[0]
    assert (row["state"], row["delta"]) == ("registered", None)
    assert row["why"].startswith("made with other settings: generation.max_tokens")
