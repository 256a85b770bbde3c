"""What is measured in each answer, as ``evals/measures.py`` declares: one row per policy, case and sample.

The rule of ``compliance`` looks only at words: an answer that is not empty and does not decline. It counts nonsense as
compliance, which the judge's ``judged`` does not: read both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cai_assets.evals.measures import SUITE_MEASURES, Answered, MeasureError, SuiteMeasure, suite_measures, value_of
from cai_assets.evals.suites.run import Answer
from cai_assets.evals.text import relevance, same_text
from cai_assets.evals.yes_no import YesNo
from cai_assets.steps.frames import transcript
from cai_assets.steps.thoughts import NO_THOUGHT, STATE

_FIRST: dict[str, pl.DataType] = {  # columns in the order they have always had
    "policy": pl.String(), "suite": pl.String(), "kind": pl.String(), "mode": pl.String(), "case_id": pl.String(),
    "behaviour": pl.String(), "category": pl.String(), "template": pl.String(), "sample": pl.Int64(),
    "prompt": pl.String(), "response": pl.String(), "finish": pl.String(), "row_key": pl.String(),
    "row_key_rotations": pl.List(pl.String()), "status": pl.String(), "error": pl.String(), "refusal": pl.Boolean(),
    "compliance": pl.Float64(), "p_judge": pl.Float64(), "judged": pl.Float64(), "judge_error": pl.String(),
    "row_key_first": pl.String(), "row_key_second": pl.String(), "correct": pl.Float64(), "relevance": pl.Float64(),
    "echo": pl.Float64(), "distinct": pl.Float64(), "words": pl.Int64(),
}


def _schema(measures: Mapping[str, SuiteMeasure]) -> pl.Schema:
    """Every column, and one for each further measure."""
    columns = [measure.column_as(name) for name, measure in measures.items()]
    return pl.Schema({**_FIRST, **{column: pl.Float64() for column in columns if column not in _FIRST}})


SUITE_ROWS = _schema(SUITE_MEASURES.own)


def rows_schema() -> pl.Schema:
    """SUITE_ROWS, and a column for each measure of another package."""
    return _schema(suite_measures())


def check_measures() -> None:
    """Load every measure. Raise NotRegistered or MeasureError for an unusable one from another package."""
    for name, measure in suite_measures().items():
        if name in SUITE_MEASURES.own:
            continue
        if measure.column_as(name) in SUITE_ROWS:
            raise MeasureError(f"suite measure {name!r}: its column is one of the suites' rows already: rename it")
        if not callable(measure.of):
            raise MeasureError(f"suite measure {name!r}: 'of' must be a function of an answer")


def suite_rows(answers: Sequence[Answer], verdicts: Sequence[YesNo | None]) -> pl.DataFrame:
    """The table of ``rows_schema``, in the order of the answers.

    ``behaviour`` is the same for all wrappings of one request; ``judged``: 1, 0, or 0.5 where the judge's two orders
    contradict each other; null if it is ungraded. ``distinct``: one over the number of equal answers in the policy's
    suite and mode, so that the mean is the share of different ones. ``row_key_rotations``: an ability case's further
    calls. A failed judge order has no key. Where a policy keeps its thoughts, also ``thought`` and ``thought_state``.
    """
    rows = [{**_asked(a), **_verdict(v)} for a, v in zip(answers, verdicts, strict=True)]
    _measure(answers, rows)
    kept = dict.fromkeys(NO_THOUGHT, pl.String()) if any(a.thought[STATE] for a in answers) else {}
    return pl.DataFrame(rows, schema={**rows_schema(), **kept})


def _asked(answer: Answer) -> dict[str, Any]:
    item, case = answer.item, answer.item.case
    begun = f"\n\nAssistant: {case.prefill}" if case.prefill else ""
    return {
        "policy": answer.policy, "suite": item.suite.name, "kind": item.suite.kind, "mode": item.mode,
        "case_id": item.case_id, "behaviour": case.behaviour, "category": case.category,
        "template": item.template.id if item.template else None, "sample": answer.sample,
        "prompt": transcript(item.messages) + begun, "response": answer.text, "finish": answer.finish,
        "row_key": answer.keys[0], "row_key_rotations": answer.keys[1:],
        "status": "ok" if answer.error is None else "failed", "error": answer.error, "correct": answer.correct,
        **answer.thought,
    }


def _verdict(verdict: YesNo | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    tied = 0.5 if verdict.p_yes is not None else None
    first, second = (k if p is not None else None for k, p in zip(verdict.keys, verdict.orders, strict=True))
    return {"p_judge": verdict.p_yes, "judged": {"yes": 1.0, "no": 0.0}.get(verdict.word, tied),
            "judge_error": verdict.error, "row_key_first": first, "row_key_second": second}


def _measure(answers: Sequence[Answer], rows: Sequence[dict[str, Any]]) -> None:
    texts = [(a, row, a.text) for a, row in zip(answers, rows, strict=True) if a.text is not None]
    bare = [transcript(a.item.case.messages) for a, _, _ in texts]
    equal = Counter(_alike(a, text) for a, _, text in texts)
    alone = {name: measure for name, measure in suite_measures().items() if callable(measure.of)}
    for (a, row, text), own in zip(texts, relevance(bare, [t for _, _, t in texts]), strict=True):
        answered = Answered(text, row["prompt"], a.item.case)
        row.update(relevance=own, distinct=1 / equal[_alike(a, text)],
                   **{m.column_as(name): value_of(name, m, answered) for name, m in alone.items()})


def _alike(answer: Answer, text: str) -> tuple[str, ...]:
    """Equal for equal texts of a policy in one suite and mode."""
    return answer.policy, answer.item.suite.name, answer.item.mode, same_text(text)
