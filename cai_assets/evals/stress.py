"""Responses to trade-off prompts, judged by each of the two principles alone: the rows that conflicts are read from.

A principle's question is asked of one response and answered by Yes or No in both orders, with the calls of a rubric
reward (``rubric.py``), so that neither principle sees the other. The same is asked in other words, and of a second
judge where there is one. Guarantee: what failed has no number and its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import polars as pl

from cai_assets.engines.protocol import Call, Sampling, Style
from cai_assets.evals.rubric import RUBRIC
from cai_assets.evals.yes_no import OPTIONS, Asked, YesNo, answering
from cai_assets.steps.complete import Addressed, Completer, Work
from cai_assets.steps.following import follow
from cai_assets.steps.respond import RESPOND, response_fields

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


class Judges(NamedTuple):
    """``labeler`` is asked every question; ``second``, where there is one, the same without the other words."""

    labeler: Completer
    second: Completer | None

    def of(self, question: Question) -> Completer:
        """Who is asked it."""
        return self.second if self.second and question.by == BY_JUDGE else self.labeler


def judged(asked: pl.DataFrame, questions: Sequence[Question], *, responder: Completer, sampling: Sampling,
           judges: Judges, style: Style) -> pl.DataFrame:
    """The rows (ROWS) of ``asked``: their columns without responses and verdicts. Verdicts are asked for as soon as a
    response is there."""
    rows, answers = asked.to_dicts(), dict[tuple[int, Question], YesNo]()
    about = [_about(row, questions, judges) for row in rows]

    def respond(place: int) -> Work[int | None]:
        row = rows[place]
        call = Call(messages=tuple(row["messages"]), sampling=sampling, sample=row["sample"])
        fields = response_fields(row["prompt_id"], (yield Addressed(RESPOND, call, responder)))
        row.update({name: value for name, value in fields.items() if name in ROWS})
        return place

    def judge(place: int) -> Iterator[Work[None]]:
        row = rows[place]
        for q in about[place] if row["response"] else []:
            yield from answering(Asked(row["messages"], row["response"], q.text), complete=judges.of(q), step=RUBRIC,
                                 style=style, told=partial(answers.__setitem__, (place, q)))

    others = [responder, *([judges.second] if judges.second else [])]
    follow([respond(i) for i in range(len(rows))], judge, complete=judges.labeler, others=others,
           what="stress: responses and verdicts", count=len(OPTIONS) * sum(map(len, about)))
    told = ([(q, answers[i, q]) for q in about[i] if (i, q) in answers] for i in range(len(rows)))
    return pl.DataFrame([{**row, **_votes(votes)} for row, votes in zip(rows, told, strict=True)], schema=ROWS)


def _about(row: Mapping[str, Any], questions: Sequence[Question], judges: Judges) -> list[Question]:
    """What is asked of a response, where there is one."""
    own = [q for principle in (row["first"], row["second"]) for q in questions if q.principle == principle]
    return [*own, *(q._replace(by=BY_JUDGE) for q in own if judges.second and q.by == BY_LABELER)]


def _votes(told: Sequence[tuple[Question, YesNo]]) -> dict[str, list[Any]]:
    return {"votes": [_vote(q, answer) for q, answer in told if q.by == BY_LABELER],
            "again": [_vote(q, answer) for q, answer in told if q.by != BY_LABELER],
            "row_keys": [key for _, answer in told for key in answer.keys]}


def _vote(q: Question, answer: YesNo) -> dict[str, Any]:
    first, second = answer.orders
    return {"principle_id": q.principle, "by": q.by, "number": q.number, "p_yes": answer.p_yes, "p_first": first,
            "p_second": second, "error": answer.error}
