"""reward.input: principle in the graph: what an edit of the constitution costs, and what is told."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from histories import START, History, latest

from cai_assets.constitution.model import Principle
from cai_assets.pipeline.votes import unknown_principles
from cai_assets.plan.plan import Plan, make_plan
from cai_assets.plan.words import in_short, remarks
from cai_assets.reports.summary import TOLD
from cai_assets.settings import Labels
from cai_assets.steps.comparisons import NoVotes, vote_comparisons

PLAINER = Principle(id="plainer", preference="Which answer is plainer?")  # of labels alone: no pair depends on it


def planned(history: History, *principles: Principle) -> Plan:
    change(history, principles)
    project: Any = history.project(history.root)
    return make_plan(project, project.snapshots.register(history.constitution))


def change(history: History, principles: Sequence[Principle]) -> None:
    history.constitution = START.model_copy(update={"principles": (*START.principles, *principles)})


def test_votes_are_learned_and_a_weight_or_a_lost_principle_costs_no_label_and_no_training(history: History) -> None:
    history.settings |= {"labels": {"principles": "vote"}, "reward": {"input": "principle"}}
    change(history, [PLAINER])
    success, version = history.run(history.root)
    assert success
    trained = latest(history.root, "reward_model", version)
    project: Any = history.project(history.root)
    labels = project.records.table(latest(history.root, "preference_pairs", version))
    assert trained.rows == sum(vote["p_a"] != 0.5 for votes in labels["votes"].to_list() for vote in votes)
    assert {ref.asset for ref in trained.inputs} >= {"constitution", "preference_pairs"}

    heavier = planned(history, PLAINER.model_copy(update={"weight": 3.0}))
    assert (heavier.line("preference_pairs").generate_max, heavier.line("reward_model").training) == (0, "reuse")
    assert heavier.line("rl_policy").training == "train"

    lower = planned(history, PLAINER.model_copy(update={"priority": 2}))
    assert (lower.line("preference_pairs").generate_max, lower.line("reward_model").training) == (0, "reuse")
    assert lower.line("rl_policy").training == "train"

    lost = planned(history)
    assert (lost.line("preference_pairs").generate_max, lost.line("reward_model").training) == (0, "reuse")
    success, less = history.run(history.root)
    assert success
    again = latest(history.root, "reward_model", less)
    assert (again.digest, again.details["reused_checkpoint"]) == (trained.digest, True)
    assert "learned from the votes of plainer" in again.details[TOLD][0]

    kinder = PLAINER.model_copy(update={"id": "kinder", "preference": "Which answer is kinder?"})
    history.settings["reward"]["model"] = str(project.checkpoints.path("reward_model", trained.digest))
    plan = planned(history, PLAINER, kinder)
    line = plan.line("reward_model")
    assert (line.trains, line.learns, line.doing, line.memory) == (True, False, "take unless unchanged", None)
    assert plan.writes["reward_model"].state == 0
    trainings = sum(x.trains for x in plan.lines)
    assert f", at most {trainings - 1} training run" in " ".join(remarks(plan)) + in_short(plan)
    assert "reward_model: a model is taken as it is and measured, not trained" in remarks(plan)
    success, more = history.run(history.root)
    assert success
    taken = latest(history.root, "reward_model", more)
    assert taken.digest != trained.digest
    assert taken.details[TOLD][0].startswith("the reward model was not trained on kinder; how it does")
    del history.settings["reward"]["model"]

    other = planned(history, PLAINER.model_copy(update={"preference": "Which answer is shorter?"}))
    votes = 2 * labels.filter(pl.col("p_a").is_not_null()).height
    assert other.line("preference_pairs").causes["principle plainer (edited)"] == votes, "its own, and no other's"
    assert other.line("reward_model").training == "train unless unchanged"


def pair(votes: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{"pair_id": "q/0", "prompt_id": "q", "messages": [{"role": "user", "content": "Hi"}],
                          "response_a": "a", "response_b": "b", "p_target": 0.7, "votes": votes}])


def test_each_vote_is_a_row_of_its_own_side_and_strength() -> None:
    constitution = START.model_copy(update={"principles": (PLAINER, PLAINER.model_copy(update={"id": "kinder"}))})
    rows = vote_comparisons(pair([{"principle_id": "plainer", "p_a": 0.9}, {"principle_id": "kinder", "p_a": 0.2},
                                  {"principle_id": "gone", "p_a": 0.3}]), 0.2, constitution, Labels(clamp=(0.3, 0.7)))
    assert rows.select("principle_id", "chosen", "rejected", "p_chosen").rows() == [
        ("kinder", "b", "a", pytest.approx(0.7)), ("plainer", "a", "b", pytest.approx(0.7))]
    assert set(rows["principle"]) == {"Which answer is plainer?"}


def test_labels_of_one_question_have_no_votes() -> None:
    constitution = START.model_copy(update={"principles": (PLAINER,)})
    with pytest.raises(NoVotes, match=r"set labels\.principles to vote or drawn"):
        vote_comparisons(pair([{"principle_id": None, "p_a": 0.9}]), 0.2, constitution, Labels())


def test_a_principle_that_it_never_saw_is_told_with_its_leave_one_out_accuracies() -> None:
    run: Any = SimpleNamespace(constitution=START.model_copy(update={"principles": (
        PLAINER, PLAINER.model_copy(update={"id": "kinder"}))}))
    record: dict[str, Any] = {"principles": [{"id": "plainer", "rows": 4}, {"id": "kinder", "rows": 0}], "metrics": {
        "principles": {"left_out": {"plainer": {"value": 0.61, "n": 40, "low": 0.5, "high": 0.7}}}}}
    assert unknown_principles(run, record) == (
        "the reward model was not trained on kinder; of its own principles, each left out of the training, its scores "
        "were right: plainer 0.61 (n = 40)")
    record["metrics"] = {}
    assert "train it with reward.controls=all" in unknown_principles(run, record)
    record["principles"][1]["rows"] = 2
    assert unknown_principles(run, record) == ""
