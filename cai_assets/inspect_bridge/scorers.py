"""The measures of the suites as scorers and a metric of Inspect: the same names and values as in ``suite_results``.

Each scores a single answer. Relevance and distinctness, which need all answers together, stay in ``suite_results``.
The metric gives the mean over requests with its interval, for all modes and for each, as ``evals/suites/metrics.py``
does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import assert_never

from inspect_ai.model import Model, get_model
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from cai_assets.engines.protocol import Call, Style
from cai_assets.evals.measures import SUITE_MEASURES, Answered, MeasureError, SuiteMeasure, measures_on, value_of
from cai_assets.evals.statistics import clustered_mean
from cai_assets.evals.suites.ability import read_choice
from cai_assets.evals.suites.run import QUESTION
from cai_assets.evals.yes_no import Asked, ask_yes_no, yes_no_calls
from cai_assets.inspect_bridge.cases import LETTERS_READ, case_of, messages_of, whole_answer
from cai_assets.inspect_bridge.provider import RowFailed, call_config, row_of
from cai_assets.steps.complete import Row


@metric
def by_request(share: bool = True) -> Metric:
    """For all modes and each: the mean over requests, the ends of its interval, and the number of requests."""

    def measure(scores: list[SampleScore]) -> dict[str, float]:
        known = [(s.score.as_float(), s.sample_metadata or {}) for s in scores if not math.isnan(s.score.as_float())]
        figures: dict[str, float] = {}
        for mode in ("all", *dict.fromkeys(str(about["mode"]) for _, about in known)):
            mine = [(value, about) for value, about in known if mode in ("all", about["mode"])]
            e = clustered_mean([v for v, _ in mine], [str(about["behaviour"]) for _, about in mine],
                               float(known[0][1]["confidence"]) if known else 0.95,
                               bounds=(0.0, 1.0) if share else None)
            ends = {"": e.value, "_low": e.low, "_high": e.high, "_n": float(e.n)}
            figures |= {f"{mode}{end}": math.nan if x is None else x for end, x in ends.items()}
        return figures

    return measure


@cache
def scorer_of(name: str) -> Callable[..., Scorer]:
    """The scorer of a suite measure, under the measure's name. Raise MeasureError if it needs all answers."""
    measure = SUITE_MEASURES[name]

    def make(style: Style = "chat") -> Scorer:
        if callable(measure.of):
            return _by_rule(name, measure)
        match measure.of:
            case "judge":
                return _by_judge(style)
            case "choices":
                return _by_letters()
            case "together":
                raise MeasureError(f"suite measure {name!r} needs all answers together: see suite_results")
            case _:
                assert_never(measure.of)

    make.__name__, make.__doc__ = name, measure.says
    return scorer(metrics=[by_request(share=measure.rate)], name=name)(make)  # type: ignore[no-any-return]


def scorers_on(kind: str, style: Style) -> list[Scorer]:
    """What Inspect can measure on a suite of a kind."""
    return [scorer_of(name)(style) for name, measure in measures_on(kind).items() if measure.of != "together"]


for _name in SUITE_MEASURES.own:  # Inspect finds by name what is created when its entry point is imported
    scorer_of(_name)


def _by_rule(name: str, measure: SuiteMeasure) -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion.strip()
        value = value_of(name, measure, Answered(text, state.metadata["asked"], case_of(state.metadata)))
        return Score.unscored(reason="scoring_failed") if value is None else Score(value=float(value), answer=text)

    return score


def _by_judge(style: Style) -> Scorer:
    """Unscored where the judge failed. The judge is the model role ``grader``, and must be a cai model."""

    async def score(state: TaskState, target: Target) -> Score:
        question = Asked(case_of(state.metadata).messages, whole_answer(state), QUESTION)
        grader = get_model(role="grader", default="cai/judge")
        try:
            rows = [await scored(grader, call) for call in yes_no_calls(question, style)]
        except RowFailed as e:
            return Score.unscored(reason="grader_failed", explanation=str(e))
        (verdict,) = ask_yes_no([question], ask=lambda _: rows, style=style)
        if verdict.p_yes is None:
            return Score.unscored(reason="grader_failed", explanation=str(verdict))
        details = {"p_yes": verdict.p_yes, "orders": list(verdict.orders), "row_keys": list(verdict.keys)}
        return Score(value={"yes": 1.0, "no": 0.0}.get(verdict.word, 0.5), explanation=str(verdict), metadata=details)

    return score


def _by_letters() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        choice = read_choice(case_of(state.metadata), [Row(**row) for row in state.metadata[LETTERS_READ]])
        if choice is None:
            return Score.unscored(reason="scoring_failed", explanation="the letters' probabilities could not be read")
        return Score(value=choice, answer=state.output.completion)

    return score


async def scored(model: Model, call: Call) -> Row:
    """The row of a scoring call."""
    return row_of(await model.generate(messages_of(call), config=call_config(call)))
