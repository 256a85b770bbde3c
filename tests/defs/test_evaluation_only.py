"""A principle that only judges: editing it trains nothing and makes no row but judgments of what drew it.

Through the real graph, with the scripted engine and the trainer replaced by a copy, as in test_laws.py.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from histories import History

from cai_assets.assets import ORDER, partition_of
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.plan.evaluation import JUDGING as NEW_RESPONSES
from cai_assets.plan.plan import Plan, make_plan
from cai_assets.store.garbage import gc
from cai_assets.store.records import Record

RED_TEAM = load_file(Path(__file__).parents[2] / "constitutions" / "red-team.yaml")
JUDGING = {"evaluation", "constitution_tests"}  # the tests judge by a principle's own request
AFTER_THE_POLICIES = {"constitution", "comparison", "attribution", "report", *JUDGING}


@pytest.fixture
def history(history: History) -> History:
    history.constitution = RED_TEAM
    history.settings["prompts"] = {"red_team": 5, "helpful": 2, "eval_red_team": 5, "eval_helpful": 4}
    return history


def edited(c: Constitution, principle_id: str, text: str) -> Constitution:
    changed = tuple(p.model_copy(update={"evaluation": text}) if p.id == principle_id else p for p in c.principles)
    return c.model_copy(update={"principles": changed})


def planned(history: History) -> Plan:
    project = history.project(history.root / "data")
    return make_plan(project, project.snapshots.register(history.constitution))


def made(history: History) -> dict[str, Record]:
    """Run the constitution as it is now; the newest record of each asset."""
    success, version = history.run(history.root / "data")
    assert success
    records = history.project(history.root / "data").records
    return {a: records.latest(a, partition_of(a, version)) for a in ORDER}


def judgments(history: History, record: Record) -> pl.DataFrame:
    """The judged rows of an evaluation."""
    layout = history.project(history.root / "data").layout
    return pl.read_parquet(layout.absolute(str(record.details["rows"]))).filter(pl.col("principle_id").is_not_null())


def made_nothing_but_judgments(records: dict[str, Record], before: dict[str, Record]) -> None:
    trained = [r for r in records.values() if "reused_checkpoint" in r.details]
    assert {r.asset for r in trained} >= {"sft_baseline", "sl_policy", "reward_model", "rl_policy"}
    assert all(r.details["reused_checkpoint"] for r in trained)
    assert {a: r.generated for a, r in records.items() if r.generated and a not in JUDGING} == {}
    for asset in records.keys() - AFTER_THE_POLICIES:
        assert records[asset].digest == before[asset].digest, asset


def plans_judgments_only(plan: Plan) -> None:
    assert {line.training for line in plan.lines if line.training} == {"reuse"}
    asked = {line.asset for line in plan.lines if line.generate_max}
    assert "evaluation" in asked <= JUDGING


def test_editing_what_only_judges_asks_the_judge_again_and_does_nothing_else(history: History) -> None:
    first = made(history)
    rows = judgments(history, first["evaluation"])
    assert rows.height == 4 * 9
    target = str(rows["principle_id"].mode()[0])
    drew = rows.filter(principle_id=target).height
    assert 0 < drew < rows.height

    history.constitution = edited(RED_TEAM, target, "Which answer bends less?")
    plan = planned(history)
    plans_judgments_only(plan)
    line = plan.line("evaluation")
    assert line.causes == {f"principle {target} (edited)": line.generate_max}
    assert 0 < line.generate_min == line.generate_max <= 2 * drew
    second = made(history)
    made_nothing_but_judgments(second, first)
    assert second["evaluation"].generated == line.generate_max
    assert second["evaluation"].failed == 0
    columns = ["policy", "prompt_id", "row_key_adherence_first"]
    moved = rows.select(columns).join(judgments(history, second["evaluation"]).select(columns), on=columns, how="anti")
    assert moved.height == drew
    assert set(second["evaluation"].settings) == {"evaluation", "generation", "labels", "models"}

    history.constitution = RED_TEAM
    assert sum(x.generate_max for x in planned(history).lines) == 0
    back = made(history)
    assert sum(r.generated for r in back.values()) == 0
    assert back["evaluation"].digest == first["evaluation"].digest

    history.settings["evaluation"] = {"max_tokens": 7}
    line = planned(history).line("evaluation")
    responses = 4 * 9 + 9  # of four policies, and of the base once more
    assert {cause.partition(":")[0]: n for cause, n in line.causes.items()} == {
        "evaluation.max_tokens": responses, NEW_RESPONSES: line.generate_max - responses}


def test_a_collection_keeps_every_row_of_an_evaluation(history: History) -> None:
    first = made(history)
    project = history.project(history.root / "data")
    assert gc(project.layout, project.records, apply=True, grace=0) == []
    assert planned(history).line("evaluation").generate_max == 0
    again = made(history)
    assert (again["evaluation"].generated, again["evaluation"].digest) == (0, first["evaluation"].digest)


@pytest.mark.long
def test_adding_what_only_judges_and_taking_it_away_trains_nothing(history: History) -> None:
    history.constitution = RED_TEAM.model_copy(update={"principles": RED_TEAM.principles[:4]})
    first = made(history)
    assert judgments(history, first["evaluation"]).is_empty()
    new = Principle(id="brief", evaluation="Which answer is as brief as it can be?")
    history.constitution = RED_TEAM.model_copy(update={"principles": (*RED_TEAM.principles[:4], new)})
    plan = planned(history)
    plans_judgments_only(plan)
    line = plan.line("evaluation")
    assert line.causes == {"principle brief (added)": line.generate_max}
    assert line.generate_max > 4 * 9
    second = made(history)
    made_nothing_but_judgments(second, first)
    assert second["evaluation"].generated == plan.line("evaluation").generate_max
    table = history.project(history.root / "data").records.table(second["evaluation"])
    shown = table.filter(metric="adherence", policy="rl_policy")
    assert shown.select("prompts", "n").rows() == [("principle:brief", 9), ("all", 9)]
    history.constitution = RED_TEAM.model_copy(update={"principles": RED_TEAM.principles[:4]})
    assert sum(r.generated for r in made(history).values()) == 0
