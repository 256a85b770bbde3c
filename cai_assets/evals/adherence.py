"""How well each policy follows the principles reserved for judging: those with an ``evaluation`` request.

Such a request appears in no training row, so editing it retrains nothing. Each evaluation prompt draws one principle,
the same for every policy, and a policy's answer is compared with the baseline's by that principle's request, in both
orders (``judge.py``). Guarantees: each prompt of a judged policy counts under exactly one principle, as a win, a tie,
a loss or ungraded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from cai_assets.constitution.draw import draw, evaluation_key
from cai_assets.constitution.model import Principle
from cai_assets.evals.judge_items import Columns, Item, Judging, References

COLUMNS = Columns("adherence_p", "adherence_outcome", "adherence_verdict", "adherence_error",
                  "row_key_adherence_first", "row_key_adherence_second")
ROWS_SCHEMA: dict[str, Any] = {
    "principle_id": pl.String, "adherence_p": pl.Float64, "adherence_verdict": pl.String,
    "adherence_error": pl.String, "row_key_adherence_first": pl.String, "row_key_adherence_second": pl.String,
}


def adherence(items: Sequence[Item], baseline: References, principles: Sequence[Principle]) -> Iterator[Judging]:
    """What to ask for the columns of ROWS_SCHEMA, and ``adherence_outcome``, of the items of judged policies.

    ``adherence_p``: probability that the policy's answer is the better one. Without principles nothing is
    asked or added.
    """
    if not principles:
        return
    drawn = [draw(principles, evaluation_key(i["prompt_id"])) for i in items]
    for item, principle in zip(items, drawn, strict=True):
        item["principle_id"] = principle.id
        yield Judging(item, baseline.get((item["prompt_id"], item["sample"])), str(principle.evaluation), COLUMNS)


def by_principle(items: Sequence[Item], principles: Sequence[Principle]) -> dict[str, list[Item]]:
    """The items that each principle judged, under 'principle:ID', and under 'all' every item."""
    if not principles:
        return {}
    ids = sorted(p.id for p in principles)  # the table must not depend on the order of the file
    return {**{f"principle:{x}": [i for i in items if i.get("principle_id") == x] for x in ids}, "all": list(items)}
