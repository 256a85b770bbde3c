"""Rounds: the RL policy of one starts the next, and nothing is reused wrongly."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from histories import History

from cai_assets.assets import partition_of
from cai_assets.defs.execute import materialize
from cai_assets.plan.plan import make_plan
from cai_assets.store.records import RecordMissing
from cai_assets.versions.rounds import Round, round_of
from cai_assets.versions.snapshots import VERSIONS


def run_round(history: History, root: Path, key: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [key])
        return materialize(instance, key, overrides={**history.settings, "data_root": str(root)})


def test_a_round_is_named_by_its_partition() -> None:
    assert round_of("care-v1-0123abcd") == Round("care-v1-0123abcd", 1)
    assert round_of("care-v1-0123abcd-r2") == Round("care-v1-0123abcd", 2)
    assert round_of("care-v1-0123abcd-r12").before() == Round("care-v1-0123abcd", 11)
    assert Round("care-v1-0123abcd", 1).next().key == "care-v1-0123abcd-r2"
    assert round_of("care-r2-0123abcd") == Round("care-r2-0123abcd", 1)
    assert round_of("care-v1-0123abcd").before() is None


def test_the_next_round_starts_from_the_rl_policy(history: History) -> None:
    data = history.root / "data"
    success, version = history.run(data)
    assert success
    second = f"{version}-r2"
    project = history.project(data)
    plan = make_plan(project, second)
    assert run_round(history, data, second).success
    records = project.records
    made = {a: records.latest(a, second) for a in ("starting_responses", "sl_policy", "rl_policy", "evaluation")}
    first = {a: records.latest(a, version) for a in made}
    start = made["starting_responses"]
    assert {i.id for i in start.inputs} >= {first["rl_policy"].ref.id}
    assert first["rl_policy"].ref.id in {i.id for i in made["sl_policy"].inputs}
    # The evaluation of round 1 has asked the same policy the held-apart prompts already.
    responses = records.table(start)
    assert start.generated == responses.filter(split="train").height
    assert start.generated + start.reused == start.rows == first["starting_responses"].rows
    assert first["starting_responses"].generated == 0
    assert first["starting_responses"].digest == records.latest("initial_responses", None).digest
    assert all(made[a].digest != first[a].digest for a in made)
    for line in plan.lines:
        if partition_of(line.asset, second):
            record = records.latest(line.asset, second)
            assert line.generate_min <= record.generated <= line.generate_max, line
    sl = project.checkpoints.find("sl_policy", made["sl_policy"].digest)
    assert sl is not None
    assert sl.record["base_name"] == f"rl_policy of {version}"
    assert project.snapshots.known() == [version, second]


@pytest.mark.long
def test_a_round_equals_its_rebuild_and_again_costs_nothing(history: History) -> None:
    data, fresh = history.root / "data", history.root / "fresh"
    success, version = history.run(data)
    second = f"{version}-r2"
    assert success
    assert run_round(history, data, second).success
    digests = history.digests(data, second)
    assert run_round(history, data, second).success
    again = history.project(data).records
    assert all(again.latest(a, second).generated == 0 for a in ("starting_responses", "critiques", "evaluation"))
    assert again.latest("sl_policy", second).details["reused_checkpoint"]
    assert history.run(fresh)[0]
    assert run_round(history, fresh, second).success
    assert history.digests(fresh, second) == digests


def test_a_round_without_the_one_before_says_what_to_do(history: History) -> None:
    data = history.root / "data"
    success, version = history.run(data)
    assert success
    result = run_round(history, data, f"{version}-r3")
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure and "starting_responses" in str(e.step_key))
    assert f"rl_policy for {version}-r2 is not materialized yet" in str(failure.step_failure_data.error)
    with pytest.raises(RecordMissing, match="materialize it first"):
        make_plan(history.project(data), f"{version}-r3")
