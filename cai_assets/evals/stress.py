"""Responses to trade-off prompts, judged by each of the two principles alone: the rows that conflicts are read from.

A principle's question is asked of one response and answered by Yes or No in both orders, with the calls of a rubric
reward (``rubric.py``), so that neither principle sees the other. The same is asked in other words, and of a second
judge where there is one. Guarantee: what failed has no number and its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import polars as pl

from cai_assets.engines.protocol import Style
from cai_assets.evals.judge import Ask
from cai_assets.evals.yes_no import Asked, YesNo, ask_yes_no

BY_LABELER: Final = "labeler"
BY_JUDGE: Final = "second judge"
By = Literal["labeler", "paraphrase", "second judge"]
VOTE: dict[str, Any] = {"principle_id": pl.String, "by": pl.String, "number": pl.Int64, "p_yes": pl.Float64,
                        "p_first": pl.Float64, "p_second": pl.Float64, "error": pl.String}
ROWS = pl.Schema({
    "first": pl.String(), "second": pl.String(), "lean": pl.String(), "prompt_id": pl.String(),
    "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})), "row_key_prompt": pl.String(),
    "sample": pl.Int64(), "response": pl.String(), "error": pl.String(), "row_key": pl.String(),
    "row_id": pl.String(), "votes": pl.List(pl.Struct(VOTE)), "again": pl.List(pl.Struct(VOTE)),
    "row_keys": pl.List(pl.String())})


class Question(NamedTuple):
    """A principle's question, or other words for it. ``number``: of the paraphrase, from 1."""

    principle: str
    text: str
    by: By
    number: int = 0


def judged(responses: pl.DataFrame, questions: Sequence[Question], *, labeler: Ask, second: Ask | None, style: Style
           ) -> pl.DataFrame:
    """The rows (ROWS) of ``responses``: their columns without verdicts. ``questions``: those asked of the labeler;
    ``second`` is asked the same, without the other words."""
    by_principle: dict[str, list[Question]] = {}
    for q in questions:
        by_principle.setdefault(q.principle, []).append(q)
    rows = responses.to_dicts()
    asked = [(i, q) for i, r in enumerate(rows) if r["response"] for p in (r["first"], r["second"])
             for q in by_principle.get(p, [])]
    told = [*zip(asked, _answers(rows, asked, labeler, style), strict=True)]
    if second:
        own = [(i, q._replace(by=BY_JUDGE)) for i, q in asked if q.by == BY_LABELER]
        told += zip(own, _answers(rows, own, second, style), strict=True)
    votes: list[dict[str, list[Any]]] = [{"votes": [], "again": [], "row_keys": []} for _ in rows]
    for (i, q), answer in told:
        votes[i]["votes" if q.by == BY_LABELER else "again"].append(_vote(q, answer))
        votes[i]["row_keys"] += answer.keys
    return pl.DataFrame([{**r, **v} for r, v in zip(rows, votes, strict=True)], schema=ROWS)


def _answers(rows: Sequence[Mapping[str, Any]], asked: Sequence[tuple[int, Question]], ask: Ask, style: Style
             ) -> list[YesNo]:
    return ask_yes_no([Asked(rows[i]["messages"], rows[i]["response"], q.text) for i, q in asked], ask=ask, style=style)


def _vote(q: Question, answer: YesNo) -> dict[str, Any]:
    first, second = answer.orders
    return {"principle_id": q.principle, "by": q.by, "number": q.number, "p_yes": answer.p_yes, "p_first": first,
            "p_second": second, "error": answer.error}
