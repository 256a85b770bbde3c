"""The plan of the written prompts: what is written and judged, and how many prompts may come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from cai_assets.assets import WRITTEN
from cai_assets.pipeline.written import WrittenPrompts, written_prompts
from cai_assets.plan.lines import planned
from cai_assets.steps.questions import ORDERS
from cai_assets.steps.write import COLUMNS

if TYPE_CHECKING:
    from cai_assets.plan.plan import Planner


def plan_written(plan: Planner) -> None:
    """Add the line, and the table with what is stored; with ``all_written``, also what may come. Raise as the stage."""
    stage = plan.stage()
    made = written_prompts(stage)
    dries = stage.asked.values()
    certain = len({key for dry in dries for key in dry.missing})
    unjudged = made.candidates.filter(pl.col("prompt_id").is_null() & pl.col("error").is_not_null()).height
    possible = certain + (len(ORDERS) * unjudged if plan.settings.written.judge_above is not None else 0)
    plan.line(WRITTEN, sum(dry.reused for dry in dries), certain, possible,
              causes=plan.with_changes(WRITTEN, possible, {}))
    coming = _coming(made)
    plan.unwritten = coming.height
    plan.keep(WRITTEN, [pl.concat([made.frame, coming]) if plan.all_written else made.frame])


def _coming(made: WrittenPrompts) -> pl.DataFrame:
    """Stand-ins for the prompts that may come of candidates that wait, as many of each kind as are wanted still."""
    waiting = planned(made.candidates)
    rows = []
    for kind, n in made.wanted.items():
        left = n - made.frame.filter(kind=kind).height
        rows += waiting.filter(kind=kind).head(left).to_dicts()
    return pl.DataFrame([{**{name: row.get(name) for name in COLUMNS}, "prompt_id": f"not-written-{row['line']}",
                          "split": "train", "messages": [{"role": "user", "content": f"(prompt {row['line']})"}]}
                         for row in rows], schema=COLUMNS)
