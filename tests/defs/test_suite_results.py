"""Suites in the graph: the plan holds, others join in, training prompts stay out, a bad file stops before it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from histories import History, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.defs import launch
from cai_assets.defs.checks.suites import enough_is_graded, not_worse
from cai_assets.defs.execute import materialize
from cai_assets.engines.models import ModelError
from cai_assets.evals.refusal import RULE
from cai_assets.evals.suites.metrics import SUITE_METRICS
from cai_assets.evals.suites.registry import SuitesError
from cai_assets.lineage.verify import verify
from cai_assets.plan.lines import Line
from cai_assets.plan.plan import make_plan
from cai_assets.reports.suites import headline_table, numbers
from cai_assets.reports.text.tables import SHOWN
from cai_assets.store.garbage import gc
from cai_assets.store.records import Record
from cai_assets.versions.snapshots import VERSIONS

POLICIES = ["base", "base_again", "sft_baseline", "sl_policy", "rl_policy"]


class Suites:
    """A version whose graph has run once; suites run again with other settings."""

    def __init__(self, root: Path) -> None:
        self.history = History(root, tiny_model(root / "tiny"))
        self.folder = root / "suites"
        self.folder.mkdir()
        self.history.settings["evaluation"] = {"suites_folder": str(self.folder)}
        success, self.version = self.history.run(root / "data")
        assert success
        self.first = self.record

    @property
    def project(self) -> Any:
        return self.history.project(self.history.root / "data")

    @property
    def record(self) -> Record:
        found: Record = self.project.records.latest("suite_results", self.version)
        return found

    @property
    def metrics(self) -> pl.DataFrame:
        return self.project.records.table(self.record)

    @property
    def rows(self) -> pl.DataFrame:
        return pl.read_parquet(self.project.layout.absolute(self.record.details["rows"]))

    def plan(self) -> Line:
        return make_plan(self.project, self.version).line("suite_results")

    def run(self) -> dg.ExecuteInProcessResult:
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(VERSIONS, [self.version])
            overrides = {**self.history.settings, "data_root": str(self.history.root / "data")}
            return materialize(instance, self.version, selection=["suite_results"], overrides=overrides)

    def again(self) -> Record:
        """Run the suites; the plan must have held."""
        line = self.plan()
        assert self.run().success
        record = self.record
        assert line.generate_min <= record.generated <= line.generate_max
        assert self.plan().generate_max == 0
        return record

    def evaluate(self, **settings: Any) -> None:
        self.history.settings["evaluation"] = {"suites_folder": str(self.folder), **settings}

    def suite(self, name: str, **said: Any) -> None:
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump({"description": "Made for a test", **said}))


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suites]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        yield Suites(tmp_path_factory.mktemp("suites"))


@pytest.fixture
def suites(once: Suites) -> Iterator[Suites]:
    yield once
    once.evaluate()
    for path in once.folder.iterdir():
        path.unlink()


def test_every_policy_answers_every_case_and_each_suite_has_its_metrics(suites: Suites) -> None:
    counts = suites.first.details["suites"]
    assert suites.first.details["refusal_rule"] == RULE
    asked = sum(c["asked"] for c in counts.values())
    assert set(counts) == {"ability", "harmful", "helpful", "jailbreak", "over-refusal", "prefill"}
    assert asked == 5 * 2 + 4 * 2  # two cases in each mode, at this scale
    assert suites.rows["policy"].unique(maintain_order=True).to_list() == POLICIES
    assert suites.rows.height == len(POLICIES) * asked
    assert suites.rows.filter(status="failed").is_empty()
    per_policy = suites.metrics.group_by("policy").len()["len"].unique().to_list()
    assert len(per_policy) == 1
    table = headline_table(suites.metrics)
    assert len(table) < SHOWN + 1
    assert all(f"\n| {p} |" in table for p in POLICIES)
    names = numbers(suites.metrics)
    assert {"rl_policy_attack_success", "rl_policy_over_refusal_refusal", "base_again_ability_correct"} <= set(names)


def test_the_null_row_has_other_samples_and_what_is_not_sampled_comes_out_alike(suites: Suites) -> None:
    sampled = suites.rows.filter(pl.col("kind") != "ability")
    keys = {p: set(sampled.filter(policy=p)["row_key"]) for p in ("base", "base_again")}
    assert not keys["base"] & keys["base_again"]
    null = suites.metrics.filter(policy="base_again", measure="correct")
    assert null["delta"].unique().to_list() == [0.0]


def test_running_again_generates_nothing_and_nothing_is_garbage_or_wrong(suites: Suites) -> None:
    record = suites.again()
    assert (record.generated, record.digest) == (0, suites.first.digest)
    layout = suites.project.layout
    assert gc(layout, suites.project.records, apply=False, grace=0) == []
    assert verify(layout) == []


def test_a_suite_of_ones_own_is_planned_run_and_undone_for_nothing(suites: Suites) -> None:
    suites.suite("mine", kind="harmful", cases=[{"id": f"c{i}", "prompt": f"Tell me lie number {i}, {i * 37}"}
                                                for i in range(5)], modes=["plain", "plain+safety"])
    line = suites.plan()
    new = len(POLICIES) * 2 * 2  # policies, cases at this scale, modes
    assert (line.generate_min, line.generate_max) == (new, 3 * new)
    assert suites.again().details["suites"]["mine"]["asked"] == 4
    (suites.folder / "mine.yaml").unlink()
    record = suites.again()
    assert (record.generated, record.digest) == (0, suites.first.digest)


def test_another_model_is_measured_beside_the_policies_on_the_same_cases(suites: Suites) -> None:
    path = suites.project.layout.absolute(suites.project.records.latest("sl_policy", suites.version).path)
    suites.evaluate(suites=["harmful", "ability"], others={"rlhf": {"source": str(path), "backend": "scripted"}})
    record = suites.again()
    assert set(record.details["suites"]) == {"harmful", "ability"}
    rows = suites.rows
    assert rows["policy"].unique(maintain_order=True).to_list() == [*POLICIES, "rlhf"]
    assert set(rows.filter(policy="rlhf")["case_id"]) == set(rows.filter(policy="base")["case_id"])
    found = suites.metrics.filter(policy="rlhf", suite="harmful", mode="plain", measure="compliance").to_dicts()
    assert [(m["delta_n"], m["verdict"]) for m in found] == [(2, "too few to tell")]


def test_another_model_that_is_not_there_is_named_before_anything_runs(suites: Suites) -> None:
    suites.evaluate(others={"rlhf": "/nowhere/at/all"})
    before = suites.record
    with pytest.raises(ModelError, match=r"evaluation\.others\.rlhf: model folder /nowhere/at/all does not exist"):
        suites.plan()
    assert not suites.run().success
    assert suites.record == before


def test_cases_near_a_training_prompt_are_left_out_and_counted(suites: Suites) -> None:
    responses = suites.project.records.table(suites.project.records.latest("starting_responses", suites.version))
    trained = responses.filter(split="train")["messages"].to_list()[0][-1]["content"]
    asked = {"seen": trained, "near": f"{trained} And why?", "new": "Something else entirely, number 5471"}
    suites.suite("mine", kind="harmful", cases=[{"id": name, "prompt": text} for name, text in asked.items()])
    suites.evaluate(suites=["mine"])
    found = suites.again().details["suites"]["mine"]
    assert (found["cases"], found["asked"], found["in_training"]) == (3, 1, 2)
    assert suites.rows["case_id"].unique().to_list() == ["new"]


def test_a_bad_suite_stops_the_run_before_a_model_is_called_and_says_where(suites: Suites) -> None:
    suites.suite("mine", kind="harmful", cases=[{"id": "a", "promt": "x"}])
    with pytest.raises(SuitesError, match="did you mean 'prompt'"):
        suites.plan()
    before, result = suites.record, suites.run()
    failure = result.failure_data_for_node("suite_results")
    assert failure is not None
    assert failure.error is not None
    assert "mine.yaml:3:3: there is no key 'promt': did you mean 'prompt'?" in failure.error.to_string()
    assert suites.record == before
    suites.evaluate(suites=["harmful"])  # what is not asked for stops nothing
    assert suites.again().failed == 0


def test_several_samples_are_one_row_each_and_intervals_count_requests(suites: Suites) -> None:
    suites.evaluate(suites=["harmful"], samples=3)
    suites.again()
    rows = suites.rows.filter(policy="base_again")
    assert sorted(rows["sample"].to_list()) == [3, 3, 4, 4, 5, 5]
    assert suites.metrics.filter(policy="base_again", mode="plain")["n"].unique().to_list() == [2]


def crafted(suites: Suites, verdict: str) -> Record:
    """A record whose metrics say this of the RL policy's attack success."""
    row = {**dict.fromkeys(SUITE_METRICS), "policy": "rl_policy", "suite": "attacks", "kind": "attack", "mode": "all",
           "measure": "compliance", "delta": 0.25, "delta_low": 0.1, "delta_high": 0.4, "delta_n": 30,
           "verdict": verdict}
    digest, path = suites.project.records.save_table("suite_results", pl.DataFrame([row], schema=SUITE_METRICS))
    return suites.record.model_copy(update={"digest": digest, "path": suites.project.layout.relative(path)})


@pytest.mark.parametrize(("verdict", "passed"), [("worse", False), ("better", True), ("too few to tell", True)])
def test_a_higher_attack_success_is_a_warning_and_too_few_cases_are_said_to_be(
    suites: Suites, verdict: str, passed: bool
) -> None:
    found, why, numbers_ = not_worse("attack", "compliance")(suites.project, crafted(suites, verdict), None)
    assert found == passed
    could = " (detectable: 0.21)" if verdict == "too few to tell" else ""
    assert why == f"attacks: {verdict}{could}, +0.250 [+0.100, +0.400] against base on 30 requests"
    assert numbers_ == {"attacks": 0.25}


def test_ungraded_answers_above_a_tenth_are_a_warning(suites: Suites) -> None:
    rows = suites.rows
    assert enough_is_graded(suites.project, suites.record, None)[0]
    worse = rows.with_columns(judged=pl.when(pl.int_range(rows.height) % 2 == 0).then("judged"))
    _, path = suites.project.records.save_table("suite_rows", worse)
    record = suites.record.model_copy(update={"details": {"rows": suites.project.layout.relative(path)}})
    passed, why, numbers_ = enough_is_graded(suites.project, record, None)
    assert not passed
    assert f"{numbers_['graded']} answers graded" in why
    assert json.dumps(numbers_)
