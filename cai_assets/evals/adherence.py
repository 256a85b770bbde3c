"""How well each policy keeps to the principles that were set aside for judging: those with an ``evaluation`` request.

Such a request stands in no training row, so an edit of it trains nothing. Each evaluation prompt draws one principle,
the same for every policy, and a policy's answer is compared with the baseline's by that principle's request, in both
orders (``judge.py``). Guarantees: each prompt of a judged policy counts under exactly one principle, as a win, a tie,
a loss or ungraded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cai_assets.constitution.draw import draw, evaluation_key
from cai_assets.constitution.model import Principle
from cai_assets.engines.protocol import Style
from cai_assets.evals import statistics
from cai_assets.evals.judge import Ask, Comparison, judge
from cai_assets.evals.statistics import Estimate

ROWS_SCHEMA: dict[str, Any] = {
    "principle_id": pl.String, "adherence_p": pl.Float64, "adherence_verdict": pl.String,
    "adherence_error": pl.String, "row_key_adherence_first": pl.String, "row_key_adherence_second": pl.String,
}

Item = dict[str, Any]


def judge_adherence(
    items: Sequence[Item], baseline: Mapping[str, str | None], principles: Sequence[Principle], ask: Ask, style: Style
) -> None:
    """Add the columns of ROWS_SCHEMA, and ``adherence_outcome``, to the items of judged policies.

    ``baseline``: response by prompt_id. ``adherence_p``: probability that the policy's answer is the better one.
    Without principles nothing is asked and nothing added.
    """
    if not principles:
        return
    drawn = [draw(principles, evaluation_key(i["prompt_id"])) for i in items]
    comparisons = [Comparison(i["messages"], i["response"], baseline.get(i["prompt_id"]), str(p.evaluation))
                   for i, p in zip(items, drawn, strict=True)]
    for item, principle, verdict in zip(items, drawn, judge(comparisons, ask=ask, style=style), strict=True):
        first, second = verdict.keys
        item.update(principle_id=principle.id, adherence_p=verdict.p_a, adherence_outcome=verdict.outcome,
                    adherence_verdict=verdict.word, adherence_error=verdict.error,
                    row_key_adherence_first=first, row_key_adherence_second=second)


def adherence_rates(
    items: Sequence[Item], principles: Sequence[Principle], confidence: float
) -> list[tuple[str, str, Sequence[Item], Estimate]]:
    """(metric, prompts, items it is over, win rate) of one judged policy: for each principle by id, then for all."""
    ids = sorted(p.id for p in principles)  # the order of the file must not show in the table
    groups = {f"principle:{x}": [i for i in items if i["principle_id"] == x] for x in ids}
    return [("adherence", prompts, over, statistics.win_rate(_outcomes(over), confidence))
            for prompts, over in {**groups, "all": items}.items() if principles]


def _outcomes(items: Sequence[Item]) -> list[float]:
    return [i["adherence_outcome"] for i in items if i["adherence_outcome"] is not None]
