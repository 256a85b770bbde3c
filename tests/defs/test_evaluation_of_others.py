"""Another model in the evaluation, end to end: planned, measured on the same prompts, told apart where it differs."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl
import pytest
from histories import History

from cai_assets.assets import needed
from cai_assets.defs.checks.evaluation import enough_is_graded, judge_is_not_the_labeller
from cai_assets.defs.evaluation import headline, verdicts
from cai_assets.defs.execute import materialize
from cai_assets.engines.protocol import Request, Result
from cai_assets.engines.scripted import Scripted
from cai_assets.evals.metrics import METRICS_SCHEMA
from cai_assets.evals.statistics import Telling
from cai_assets.plan.lines import Line
from cai_assets.plan.plan import make_plan
from cai_assets.reports.ranking import ranking
from cai_assets.store.records import Record
from cai_assets.versions.snapshots import VERSIONS

GRAPH = needed("evaluation")
POLICIES = ["base", "base_again", "sft_baseline", "sl_policy", "rl_policy", "rlhf"]
PROMPTS, SAMPLES = 24 + 2, 2
REFUSES = "refuses-everything"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of that name declines whatever it is asked."""
    answer = Scripted._answer

    def declines(self: Scripted, request: Request) -> Result:
        said = answer(self, request)
        refuses = REFUSES in self.identity.weights and request.call.sampling is not None
        return said.model_copy(update={"text": "I can't help with that."}) if refuses else said

    monkeypatch.setattr(Scripted, "_answer", declines)


@pytest.mark.usefixtures("refusing")
def test_a_model_given_by_name_is_evaluated_beside_the_policies(history: History) -> None:
    history.settings["prompts"] = {"red_team": 4, "helpful": 2, "eval_red_team": 2, "eval_helpful": 24}
    others = {"rlhf": {"source": REFUSES, "backend": "scripted"}}
    history.settings["evaluation"] = {"samples": SAMPLES, "others": others}
    first, line = evaluated(history)
    assert line.generate_min <= first.generated <= line.generate_max
    project = history.project(history.root / "data")
    metrics = project.records.table(first)
    rows = pl.read_parquet(project.layout.absolute(first.details["rows"]))
    assert dict(metrics.schema) == METRICS_SCHEMA
    assert rows["policy"].unique(maintain_order=True).to_list() == POLICIES
    assert rows["policy"].value_counts()["count"].unique().to_list() == [PROMPTS * SAMPLES]
    again, base = (set(rows.filter(policy=p)["row_key"]) for p in ("base_again", "base"))
    assert not again & base

    refusal = {p: told(metrics, p, "refusal", "helpful") for p in POLICIES}
    assert (refusal["rlhf"]["value"], refusal["rlhf"]["n"], refusal["rlhf"]["verdict"]) == (1.0, 24, "worse")
    assert refusal["base_again"]["verdict"] == "no difference seen"
    assert told(metrics, "rlhf", "refusal", "red-team")["verdict"] == "too few to tell"
    assert "| rlhf |" in headline(metrics)
    few, worse = verdicts(metrics, Telling(0.95, 20)).splitlines()[-1].split(" | ")[-2:]
    assert few.startswith("too few to tell (detectable with 20: ")
    assert worse == "worse |"
    assert len(headline(metrics)) < 1000

    # What was made is planned for nothing; another judge asks every comparison again and no policy.
    assert planned(history).generate_max == 0
    assert not judge_is_not_the_labeller(project, first, None)[0]
    graded = enough_is_graded(project, first, None)
    assert graded[0]
    # five policies against base, by question and by principle, and the RL against the SL policy
    assert graded[2]["graded"] == PROMPTS * SAMPLES * 11
    table = ranking(project.layout, [str(first.partition)], "helpfulness")
    assert {s.policy for s in table.standings} == set(POLICIES)
    history.settings["models"]["judge"] = {"source": "another", "backend": "scripted"}
    second, line = evaluated(history)
    assert (second.generated, line.generate_min) == (line.generate_max, line.generate_max)
    assert judge_is_not_the_labeller(history.project(history.root / "data"), second, None)[0]


def told(metrics: pl.DataFrame, policy: str, metric: str, prompts: str) -> dict[str, Any]:
    return metrics.filter(policy=policy, metric=metric, prompts=prompts).to_dicts()[0]


def planned(history: History) -> Line:
    project = history.project(history.root / "data")
    return make_plan(project, project.snapshots.register(history.constitution)).line("evaluation")


def evaluated(history: History) -> tuple[Record, Line]:
    """The evaluation, made, and what was planned for it before."""
    root = history.root / "data"
    line = planned(history)
    project = history.project(root)
    version = project.snapshots.register(history.constitution)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        overrides = {**history.settings, "data_root": str(root)}
        assert materialize(instance, version, selection=GRAPH, overrides=overrides).success
    return project.records.latest("evaluation", version), line
