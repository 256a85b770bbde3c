"""Written prompts in the whole graph: planned within bounds, asked once, trained on, traced to their examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from histories import History, latest
from model_fixtures import prepared_model

from cai_assets.defs.checks.inputs import written_accounted_for
from cai_assets.lineage.trace import row_chain, trace
from cai_assets.pipeline import stages
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.written import written_prompts
from cai_assets.plan.plan import make_plan

ON = {"red_team": 0.5, "helpful": 0.5, "judge_above": 0.4}


def test_a_run_stays_within_its_plan_and_a_second_one_asks_for_nothing(history: History) -> None:
    history.run(history.root)
    history.settings["written"] = ON
    project: Any = history.project(history.root)
    version = project.snapshots.register(history.constitution)
    plan = make_plan(project, version)
    drafts = 2 * (6 + 2)
    line = plan.line("written_prompts")
    assert (line.generate_min, line.generate_max) == (drafts, 3 * drafts)
    first = plan.line("initial_responses")
    assert (first.reuse, first.generate_min, first.generate_max) == (12, 0, 8)
    assert first.causes == {"written_prompts are new": 8}
    success, _ = history.run(history.root)
    assert success
    made = {asset: latest(history.root, asset, version)
            for asset in ("written_prompts", "initial_responses", "critiques")}
    kept = made["written_prompts"].rows
    assert 0 < kept <= 8
    for asset, record in made.items():
        assert plan.line(asset).generate_min <= record.generated <= plan.line(asset).generate_max, asset
    assert made["initial_responses"].rows == 12 + kept
    assert {ref.asset for ref in made["initial_responses"].inputs} == {"prompts", "written_prompts"}
    assert written_accounted_for(project, made["written_prompts"], None)[2]["kept"] == kept
    again = make_plan(history.project(history.root), version)
    assert sum(x.generate_max for x in again.lines) == 0
    assert not any(x.trains for x in again.lines)


@pytest.mark.long
def test_off_again_goes_back_for_nothing(history: History) -> None:
    history.run(history.root)
    _, version = history.run(history.root)
    before = latest(history.root, "initial_responses", version).digest
    history.settings["written"] = ON
    history.run(history.root)
    assert latest(history.root, "initial_responses", version).digest != before
    history.settings["written"] = {}
    history.run(history.root)
    record = latest(history.root, "initial_responses", version)
    assert (record.digest, record.generated) == (before, 0)


def test_a_written_prompt_is_traced_to_its_call_and_its_examples(history: History) -> None:
    history.settings["written"] = ON
    success, version = history.run(history.root)
    assert success
    project: Any = history.project(history.root)
    prompt = project.records.table(latest(history.root, "written_prompts", version)).filter(kind="red-team").row(
        0, named=True)
    revisions = project.records.table(latest(history.root, "revisions", version))
    row = revisions.filter(prompt_id=prompt["prompt_id"])["row_id"][0]
    chain = row_chain(project.layout, row)
    (origin,) = chain.filter(asset="written_prompts").iter_rows(named=True)
    assert origin["row_keys"] == [prompt["row_key"]]
    assert origin["parents"] == [prompt["like"]] == prompt["examples"][-1:]
    assert prompt["like"] in set(chain.filter(asset="prompts")["row_id"])
    groups = trace(project.layout, f"rl_policy@{version}").lineage.influence.prompts
    assert sum(g.prompts for g in groups if g.source == "written") > 0
    assert sum(g.prompts for g in groups) == project.records.table(
        latest(history.root, "initial_responses", version)).filter(split="train").height


@pytest.mark.model
def test_the_real_model_writes_prompts(tmp_path: Path) -> None:
    """Machinery alone: it writes, every candidate has its fate, and the same again is reused."""
    root = tmp_path / "data"
    (root / "models").mkdir(parents=True)
    model = prepared_model().path
    (root / "models" / model.name).symlink_to(model)
    project = Project.open({"data_root": str(root), "written": {
        "red_team": 0.25, "helpful": 0.2, "candidates": 1.5, "max_tokens": 32, "judge_above": 0.3}})
    try:
        given = stages.prompts(project.settings).frame
        made, again = (written_prompts(Writing(project, given)) for _ in range(2))
    finally:
        project.close()
    assert made.wanted == {"red-team": 8, "helpful": 2}
    assert made.candidates.height == 12 + 3
    assert made.candidates["left_out"].null_count() == made.frame.height > 0
    assert made.candidates["p_judge"].drop_nulls().is_between(0, 1).all()
    assert set(made.frame["split"]) == {"train"}
    assert again.frame.equals(made.frame)


class Writing(Context):
    """The stage's context, with the prompts given."""

    def __init__(self, project: Project, prompts: pl.DataFrame) -> None:
        super().__init__(project, None)
        self._prompts = prompts

    def read(self, asset: str) -> pl.DataFrame:
        return self._prompts
