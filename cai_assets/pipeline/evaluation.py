"""The stages that look at policies by suites, and at rounds, as functions of settings and the tables above them.

As in ``stages.py``: assets run these with a real completer, plans with one that only looks keys up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import polars as pl

from cai_assets.engines.protocol import Sampling
from cai_assets.evals import rounds
from cai_assets.evals.suites.draw import Drawn, draw
from cai_assets.evals.suites.measures import suite_rows
from cai_assets.evals.suites.metrics import suite_metrics
from cai_assets.evals.suites.model import Suite
from cai_assets.evals.suites.registry import load_suites
from cai_assets.evals.suites.run import Answer, answers_of, verdicts_of
from cai_assets.evals.yes_no import YesNo
from cai_assets.pipeline import stages
from cai_assets.pipeline.policies import policy_names, samples_of
from cai_assets.settings import Settings
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.complete import Completer
from cai_assets.steps.mix import texts_of


class SuiteCases(NamedTuple):
    """The suites that run, and what of them is asked."""

    suites: list[Suite]
    drawn: Drawn


def suite_cases(settings: Settings, responses: pl.DataFrame) -> SuiteCases:
    """The cases of each suite that are asked of every policy, none of them near a training prompt.

    ``responses``: the round's first, which know its prompts. Raise SuitesError if a suite cannot be used.
    """
    wanted = settings.evaluation
    suites = load_suites(wanted.suites_folder, wanted.suites, max_chars=settings.prompts.max_chars)
    return SuiteCases(suites, draw(suites, list(training_texts(settings, responses)), limit=wanted.suite_cases))


def training_texts(settings: Settings, responses: pl.DataFrame) -> Iterator[str]:
    """Every prompt, and each turn of it, that something is trained on: the round's own, mixed-in ones, people's."""
    trained = [responses.filter(pl.col("split") == "train")]
    if settings.supervised.mix:
        trained.append(stages.baseline_rows(settings, responses))
    if settings.reward.human:
        trained.append(read_comparisons(settings.reward.human.path).frame)
    yield from (text for frame in trained for messages in frame["messages"].to_list() for text in texts_of(messages))


def suite_answers(settings: Settings, cases: SuiteCases, *, complete: Completer, policy: str) -> list[Answer]:
    """What one policy answers to every case."""
    g = settings.generation
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=settings.evaluation.max_tokens)
    return answers_of(cases.drawn.items, complete=complete, policy=policy, samples=samples_of(settings, policy),
                      sampling=sampling)


def suite_verdicts(settings: Settings, answers: Sequence[Answer], *, complete: Completer) -> list[YesNo | None]:
    """The judge's verdict on each answer: ``models.judge``, where one is set, and the generator otherwise."""
    return verdicts_of(answers, ask=partial(complete, stages.JUDGE, what="judge: suites"), style=settings.labels.style)


def suite_tables(
    settings: Settings, cases: SuiteCases, answers: Sequence[Answer], verdicts: Sequence[YesNo | None]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Metrics and rows, as SUITE_METRICS and SUITE_ROWS."""
    wanted, rows = settings.evaluation, suite_rows(answers, verdicts)
    return suite_metrics(rows, cases.suites, policy_names(settings), enough=wanted.enough,
                         confidence=wanted.confidence), rows


def round_quality(
    settings: Settings, responses: pl.DataFrame, revisions: pl.DataFrame, *, complete: Completer
) -> rounds.Rounds:
    """What each critique-revision round gains, on at most ``evaluation.round_chains`` chains."""
    wanted = settings.evaluation
    return rounds.round_quality(responses, revisions, ask=partial(complete, stages.JUDGE, what="judge: rounds"),
                                style=settings.labels.style, limit=wanted.round_chains, enough=wanted.enough,
                                confidence=wanted.confidence)


def round_verdicts(
    settings: Settings, responses: pl.DataFrame, revisions: pl.DataFrame, *, complete: Completer
) -> pl.DataFrame:
    """The calls of ``round_quality`` alone, as its rows: what a plan needs of it."""
    drawn = rounds.draw_chains(rounds.chains_of(responses, revisions), settings.evaluation.round_chains)
    ask = partial(complete, stages.JUDGE, what="judge: rounds")
    return pl.DataFrame(rounds.judge_rounds(drawn, ask=ask, style=settings.labels.style), rounds.ROWS_SCHEMA)
