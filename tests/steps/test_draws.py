"""What lint says would be drawn for is what a run draws for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from given import Given

from cai_assets.constitution.draw import draw
from cai_assets.constitution.lint import Draws
from cai_assets.constitution.load import load_file
from cai_assets.engines.scripted import Scripted
from cai_assets.pipeline import stages
from cai_assets.settings import load_settings
from cai_assets.steps.complete import Completer
from cai_assets.steps.draws import draws_of
from cai_assets.steps.prompts import load_prompts, select
from cai_assets.steps.tables import whole
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

CONSTITUTION = load_file(Path(__file__).parents[2] / "constitutions" / "harmlessness.yaml")
FEW = {"red_team": 5, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2}


@pytest.mark.parametrize("overrides", [
    {}, {"critique": {"rounds": 3}}, {"pairs": {"source": "revision"}}, {"pairs": {"helpful": False}},
    {"pairs": {"candidates": 3, "combine": "all"}}, {"pairs": {"candidates": 4}},
])
def test_every_draw_of_a_run_and_no_other(tmp_path: Path, overrides: dict[str, Any]) -> None:
    settings = load_settings({"prompts": FEW, **overrides}, environment={})
    prompts = select(load_prompts((), max_chars=8000).frame, settings.prompts, seed=0)
    complete = Completer(Scripted(), RowStore(Layout(tmp_path)), seed=0)
    run = Given(settings, complete, CONSTITUTION, prompts=prompts)
    responses = run.tables["starting_responses"] = pl.concat(stages.initial_responses(run))
    critiques, run.tables["revisions"] = whole(stages.critiques_and_revisions(run))
    run.tables["response_pairs"] = pl.concat(stages.response_pairs(run))
    labels = pl.concat(stages.preference_pairs(run))

    found = {d.use: d for d in draws_of(settings, prompts)}
    assert drawn(found["critique"]) == sorted(critiques["principle_id"])
    assert drawn(found["preference"]) == sorted(labels["principle_id"])
    assert set(found["evaluation"].ids) == set(responses.filter(stages.HELD_OUT)["prompt_id"])


def drawn(draws: Draws) -> list[str]:
    principles = CONSTITUTION.taking_part(draws.use)
    return sorted(draw(principles, key).id for key in draws.each())


def test_principles_that_judge_together_are_not_drawn() -> None:
    settings = load_settings({"prompts": FEW, "labels": {"principles": "vote"}}, environment={})
    prompts = select(load_prompts((), max_chars=8000).frame, settings.prompts, seed=0)
    assert [d.use for d in draws_of(settings, prompts)] == ["critique", "evaluation"]
