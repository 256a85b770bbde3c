"""The asset graph, pinned: a change here is a change of the product's shape."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from cai_assets.definitions import defs

EDGES = {
    "prompts": set(),
    "written_prompts": {"prompts"},
    "initial_responses": {"prompts", "written_prompts"},
    "constitution": set(),
    "starting_responses": {"initial_responses"},
    "critiques": {"constitution", "starting_responses"},
    "revisions": {"constitution", "starting_responses", "critiques"},
    "sl_dataset": {"starting_responses", "revisions"},
    "spec_documents": {"constitution", "starting_responses"},
    "mid_policy": {"starting_responses", "spec_documents"},
    "sl_policy": {"sl_dataset", "mid_policy"},
    "sft_baseline": {"initial_responses"},
    "response_pairs": {"starting_responses", "revisions", "sl_policy"},
    "preference_pairs": {"constitution", "response_pairs"},
    "reward_model": {"preference_pairs"},
    "rl_policy": {"constitution", "sl_dataset", "sl_policy", "response_pairs", "preference_pairs", "reward_model"},
    "evaluation": {"constitution", "starting_responses", "sft_baseline", "sl_policy", "reward_model", "rl_policy"},
    "suite_results": {"starting_responses", "sft_baseline", "sl_policy", "rl_policy"},
    "round_quality": {"starting_responses", "revisions"},
    "constitution_tests": {"constitution", "rl_policy"},
    "stress": {"constitution"},
    "attribution": {"suite_results", "evaluation"},
    "report": {"evaluation", "suite_results", "round_quality", "constitution_tests", "stress", "attribution"},
    "comparison": {"evaluation", "report"},
}
GROUPS = {
    "inputs": {"prompts", "written_prompts", "initial_responses", "starting_responses", "constitution"},
    "supervised": {"critiques", "revisions", "sl_dataset", "spec_documents", "mid_policy", "sl_policy", "sft_baseline"},
    "preference": {"response_pairs", "preference_pairs", "reward_model"},
    "reinforcement": {"rl_policy"},
    "evaluation": {"evaluation", "suite_results", "round_quality", "constitution_tests", "stress",
                   "attribution", "report", "comparison"},
}
UNPARTITIONED = {"prompts", "written_prompts", "initial_responses", "sft_baseline", "comparison"}
BLOCKING = {"splits_are_disjoint", "rows_accounted_for", "revisions_changed_something", "has_training_rows",
            "labels_can_train", "labels_may_train", "nothing_is_lost"}
SPECS = {s.key.to_user_string(): s for s in defs.resolve_all_asset_specs()}


def test_edges() -> None:
    assert {k: {d.asset_key.to_user_string() for d in s.deps} for k, s in SPECS.items()} == EDGES


def test_groups_and_partitions() -> None:
    groups: dict[str, set[str]] = {}
    for name, spec in SPECS.items():
        groups.setdefault(spec.group_name or "", set()).add(name)
    assert groups == GROUPS
    assert {k for k, s in SPECS.items() if s.partitions_def is None} == UNPARTITIONED


def test_partitioned_assets_hang_on_one_unpartitioned_asset_as_far_as_automation_goes() -> None:
    shortcuts = {(k, d) for k, deps in EDGES.items() if k not in UNPARTITIONED for d in deps & UNPARTITIONED}
    assert {d for _, d in shortcuts} == {"initial_responses", "sft_baseline"}
    assert {k for k, d in shortcuts if d == "sft_baseline"} == {"evaluation", "suite_results"}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_asset_says_what_it_is(name: str) -> None:
    spec = SPECS[name]
    assert spec.owners
    assert spec.kinds
    assert spec.code_version
    assert spec.description
    assert len(spec.description) > 40


def test_checks_are_partition_aware_and_the_blocking_ones_are_known() -> None:
    specs = [s for c in defs.asset_checks or [] for s in c.check_specs]
    for spec in specs:
        assert (spec.partitions_def is None) == (spec.asset_key.to_user_string() in UNPARTITIONED), spec.name
    assert {s.name for s in specs if s.blocking} == BLOCKING


def test_jobs_sensors_and_schedule() -> None:
    repository = defs.get_repository_def()
    assert {j.name for j in repository.get_all_jobs() if not j.name.startswith("__")} == {
        "all", "supervised", "preference", "reinforcement", "evaluation"}
    status = {s.name: s.default_status for s in repository.sensor_defs}
    assert status == {"register_constitutions": dg.DefaultSensorStatus.RUNNING,
                      "automation": dg.DefaultSensorStatus.STOPPED}
    (weekly,) = repository.schedule_defs
    assert weekly.default_status == dg.DefaultScheduleStatus.STOPPED
    dg.Definitions.validate_loadable(defs)


def test_the_code_location_is_light_to_open() -> None:
    """Law 6: a fresh process that loads it has loaded no model library."""
    heavy = {"torch", "vllm", "transformers", "trl", "datasets", "peft", "inspect_ai", "ray", "obstore"}
    code = f"import sys, cai_assets.definitions, cai_assets.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
