"""The arm in the graph: planned exactly, traced to principles and prompts, checked, and left again for nothing."""

from __future__ import annotations

from typing import Any

import polars as pl
from histories import ROUNDS, History, latest

from cai_assets.constitution.draw import critique_key, draw
from cai_assets.defs.checks.supervised import answers_have_not_collapsed
from cai_assets.lineage.trace import row_chain, trace
from cai_assets.plan.plan import make_plan


def test_a_run_is_as_planned_an_edit_costs_the_rows_that_drew_it_and_a_trace_names_them(history: History) -> None:
    history.settings |= {"sl": {"source": "in_context"},
                         "evaluation": {"suites": ["prefill"], "suite_cases": 1, "round_chains": 2}}
    project: Any = history.project(history.root)
    plan = make_plan(project, version := project.snapshots.register(history.constitution))
    answers = ROUNDS * 6
    lines = [plan.line(asset) for asset in ("critiques", "revisions")]
    assert [(x.generate_min, x.generate_max) for x in lines] == [(0, 0), (answers, answers)]  # nothing waits for a text
    assert history.run(history.root) == (True, version)
    record = latest(history.root, "revisions", version)
    assert record.generated == answers
    assert record.settings["sl"]["source"] == "in_context"
    assert not any(x.generate_max or x.trains for x in make_plan(history.project(history.root), version).lines)

    project = history.project(history.root)
    table = project.records.table(record)
    row = table.row(0, named=True)
    chain = row_chain(project.layout, row["row_id"])
    assert set(chain.filter(pl.col("row_id") != row["row_id"])["asset"]) == {"prompts"}
    shares = {p.id: p.rows for p in trace(project.layout, f"sl_policy@{version}").lineage.influence.principles}
    assert {i: n for i, n in shares.items() if n} == dict(table["principle_id"].value_counts().iter_rows())
    passed, text, numbers = answers_have_not_collapsed(project, record, version)
    assert passed
    assert "too few to tell" in text
    assert numbers["near_identical_limit"] == 0.1

    principles = list(history.constitution.taking_part("critique"))
    drawn = [draw(principles, critique_key(p, k)).id for p in table["prompt_id"].unique() for k in range(1, ROUNDS + 1)]
    edited = max(set(drawn), key=drawn.count)
    history.constitution = history.constitution.model_copy(update={"principles": tuple(
        p.model_copy(update={"revision": "Say it in one word."}) if p.id == edited else p
        for p in history.constitution.principles)})
    line = make_plan(project, project.snapshots.register(history.constitution)).line("revisions")
    assert (line.generate_min, line.generate_max) == (drawn.count(edited), drawn.count(edited))
    assert sum(n for cause, n in line.causes.items() if edited in cause) == drawn.count(edited)
