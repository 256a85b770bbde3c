"""The plan of the stress test: what is written for certain, and what is asked of texts that do not exist yet."""

from __future__ import annotations

import polars as pl

from cai_assets.pipeline.stress import Stressed, second_judge, stress
from cai_assets.plan.dry import PLANNED
from cai_assets.plan.lines import Lines, planned
from cai_assets.settings import Settings
from cai_assets.steps.questions import ORDERS

ASSET = "stress"
PRINCIPLES = 2  # that judge a response


def plan_stress(plan: Lines) -> None:
    """Add the line. Raise DataError if the file of prompts cannot be read."""
    stage = plan.stage()
    made = stress(stage)
    dries = stage.asked.values()
    certain = len({key for dry in dries for key in dry.missing})
    waiting = _waiting(made, plan.settings)
    possible = certain + sum(waiting.values())
    plan.line(ASSET, sum(dry.reused for dry in dries), certain, possible,
              causes=plan.with_changes(ASSET, possible, {cause: n for cause, n in waiting.items() if n}))


def _waiting(made: Stressed, settings: Settings) -> dict[str, int]:
    """Calls about texts that are still to be written."""
    wanted = settings.stress
    readings = PRINCIPLES * len(ORDERS) * (1 + wanted.paraphrases + second_judge(settings))
    answered = made.rows.filter(pl.col("response").is_not_null())
    words = planned(made.paraphrases)["principle_id"].to_list()
    again = sum(len(ORDERS) * (row["first"], row["second"]).count(name)
                for row in answered.iter_rows(named=True) for name in words)
    return {"trade-off prompts are new": planned(made.prompts).height * wanted.responses * (1 + readings),
            "responses are new": made.rows.filter(pl.col("error") == PLANNED).height * readings,
            "paraphrases are new": again}
