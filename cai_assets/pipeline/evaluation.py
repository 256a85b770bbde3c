"""The stages that look at policies and at rounds, each one function of its context, as in ``stages.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import polars as pl

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.evals import rounds
from cai_assets.evals.constitution_tests import Roles, Tested, run_cases
from cai_assets.evals.evaluate import Evaluation
from cai_assets.evals.judge import STEP as JUDGE
from cai_assets.evals.judge_items import Item, Judgings
from cai_assets.evals.metrics import METRICS_SCHEMA
from cai_assets.evals.rules import checks_of
from cai_assets.evals.suites.draw import Drawn, draw
from cai_assets.evals.suites.measures import suite_rows
from cai_assets.evals.suites.metrics import suite_metrics
from cai_assets.evals.suites.model import Suite
from cai_assets.evals.suites.registry import load_suites, refuse_no_folder
from cai_assets.evals.suites.run import Answer, Try, judged, tries_of
from cai_assets.evals.yes_no import YesNo
from cai_assets.pipeline.constitution_tests import POLICY, Tests
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.policies import by_engine, policy_names, samples_of
from cai_assets.pipeline.stages import ASKED, HELD_OUT
from cai_assets.pipeline.trainings import baseline_rows
from cai_assets.settings import Settings
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.complete import Addressed, Completer, Row, Work
from cai_assets.steps.following import follow
from cai_assets.steps.mix import texts_of
from cai_assets.steps.questions import ORDERS
from cai_assets.steps.respond import RESPOND, answered, response_of
from cai_assets.store.tables import Table


class Evaluated(NamedTuple):
    """Metrics and rows as ``evals.evaluate`` has them, and the responses of each policy."""

    metrics: pl.DataFrame
    rows: pl.DataFrame
    responses: Mapping[str, pl.DataFrame]


class SuiteCases(NamedTuple):
    """The suites that run, and what of them is asked."""

    suites: list[Suite]
    drawn: Drawn


class Suites(NamedTuple):
    """The cases, each policy's answers to them in the order of policies, and the judge's verdict on each answer."""

    cases: SuiteCases
    answers: list[Answer]
    verdicts: list[YesNo | None]


def evaluation(run: Context, *, measures: bool = True) -> Evaluated:
    """Every policy on the same prompts, with ``base`` as the one to win over. Of the constitution only the evaluation
    requests are read. Without ``measures`` it asks only, as a plan does, and has no metrics."""
    run.note("constitution")
    prompts = run.read("starting_responses", *ASKED, where=HELD_OUT)
    policies, judge = run.policies(), run.complete("judge")
    asked = {name: _asked(run.settings, prompts, name) for name in policies}
    made = Evaluation(asked, principles=run.constitution.taking_part("evaluation"))
    answers = _ask(run.settings, made, policies, judge)
    checks, wanted = checks_of(run.constitution), run.settings.evaluation
    metrics = (made.metrics(checks, confidence=wanted.confidence, enough=wanted.enough) if measures
               else pl.DataFrame(schema=METRICS_SCHEMA))
    return Evaluated(metrics, made.rows(checks), {
        name: answered(asked[name], answers[name], complete) for name, complete in policies.items()})


def _asked(settings: Settings, prompts: pl.DataFrame, policy: str) -> pl.DataFrame:
    """The evaluation prompts for one policy, with the column ``sample``, which counts from 0."""
    samples = pl.DataFrame({"sample": range(len(samples_of(settings, policy)))}, {"sample": pl.Int64})
    return prompts.join(samples, how="cross", maintain_order="left_right")


def _ask(
    settings: Settings, made: Evaluation, policies: Mapping[str, Completer], judge: Completer
) -> dict[str, list[Row]]:
    """The policies for their answers, and the judge about each as soon as those are there that it compares; return the
    rows of the answers.

    The null row's samples are not the base model's: each has its counterpart.
    """
    sampling = answer_sampling(settings)
    judgings = Judgings(made.judgings, judge=judge, style=settings.labels.style)
    rows: dict[str, dict[int, Row]] = {name: {} for name in policies}

    def answer(policy: str, place: int, item: Item) -> Work[Item]:
        call = Call(messages=tuple(item["messages"]), sampling=sampling,
                    sample=samples_of(settings, policy)[item["sample"]])
        row = rows[policy][place] = yield Addressed(RESPOND, call, policies[policy])
        item.update(response=response_of(row), row_key=row.row_key)
        return item

    order = in_turn(policies, judge)
    first = [answer(name, place, item) for name in order for place, item in enumerate(made.items[name])]
    follow(first, judgings.of, complete=judge, others=[policies[name] for name in order], what="answers and judge",
           count=len(ORDERS) * len(made.judgings))
    return {name: [own[place] for place in range(len(own))] for name, own in rows.items()}


def in_turn(policies: Mapping[str, Completer], judge: Completer) -> list[str]:
    """The order in which each model is loaded once."""
    return by_engine({name: complete.engine for name, complete in policies.items()}, last=judge.engine)


def answer_sampling(settings: Settings) -> Sampling:
    """How policies are sampled that are evaluated."""
    g = settings.generation
    return Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=settings.evaluation.max_tokens)


def suite_results(run: Context) -> Suites:
    """Raise SuitesError if a suite cannot be used, ModelError if a policy cannot."""
    cases = suite_cases(run.settings, run.table("starting_responses"))
    policies, judge = run.policies(), run.complete("judge")
    tries = [one for name, complete in policies.items()
             for one in suite_tries(run.settings, cases, complete=complete, policy=name)]
    order = {name: policies[name] for name in in_turn(policies, judge)}
    return Suites(cases, *judged(tries, policies=order, judge=judge, style=run.settings.labels.style))


def suite_cases(settings: Settings, responses: Table) -> SuiteCases:
    """The cases of each suite that are asked of every policy, none of them near a training prompt.

    ``responses``: the round's first, which know its prompts. Raise SuitesError if a suite cannot be used.
    """
    wanted = settings.evaluation
    refuse_no_folder(wanted)
    suites = load_suites(wanted.suites_folder, wanted.suites, max_chars=settings.prompts.max_chars)
    return SuiteCases(suites, draw(suites, TrainingTexts(settings, responses), limit=wanted.suite_cases))


@dataclass(frozen=True)
class TrainingTexts:
    """Every prompt, and each turn of it, that something is trained on: the round's own, mixed-in ones, people's."""

    settings: Settings
    responses: Table

    def __iter__(self) -> Iterator[str]:
        return (text for frame in self._frames() for (messages,) in frame.select("messages").iter_rows()
                for text in texts_of(messages))

    def _frames(self) -> Iterator[pl.DataFrame]:
        yield from self.responses.parts("messages", where=pl.col("split") == "train")
        if self.settings.supervised.mix:
            yield baseline_rows(self.settings, self.responses.read())
        if human := self.settings.reward.human:
            yield read_comparisons(human.path, columns=human.columns, training=True).frame


def suite_tries(settings: Settings, cases: SuiteCases, *, complete: Completer, policy: str) -> list[Try]:
    """What one policy is asked of every case."""
    return tries_of(cases.drawn.items, complete=complete, policy=policy, samples=samples_of(settings, policy),
                    sampling=answer_sampling(settings))


def suite_tables(settings: Settings, done: Suites) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Metrics and rows, as SUITE_METRICS and SUITE_ROWS."""
    wanted, rows = settings.evaluation, suite_rows(done.answers, done.verdicts)
    policies = rows["policy"].unique(maintain_order=True).to_list() or policy_names(settings)
    return suite_metrics(rows, done.cases.suites, policies, enough=wanted.enough, confidence=wanted.confidence), rows


def round_quality(run: Context) -> rounds.Judged:
    """What the judge says of each critique-revision round, on at most ``evaluation.round_chains`` chains."""
    responses, revisions = run.table("starting_responses"), run.table("revisions")
    prompts = revisions.read("prompt_id").to_series().unique()
    drawn = rounds.draw_chains(prompts, run.settings.evaluation.round_chains)
    mine = pl.col("prompt_id").is_in(drawn)
    chains = rounds.chains_of(responses.read(where=mine), revisions.read(where=mine), drawn)
    ask = partial(run.complete("judge"), JUDGE, what="judge: rounds")
    return rounds.judged(chains, ask=ask, style=run.settings.labels.style, of=len(prompts))


def constitution_tests(
    run: Context, tests: Tests, *, only: Sequence[str] | None = None, graded: bool = True
) -> Tested:
    """The cases of a version's tests, with the policy's own answers once there is a policy; ``graded``: as of
    ``run_cases``."""
    policy = run.complete_as(POLICY) if run.is_made(POLICY) else None
    roles = Roles(responder=run.complete("responder"), critic=run.complete("critic"),
                  labeller=run.complete("labeller"), judge=run.complete("judge"), policy=policy)
    return run_cases(run.settings, run.constitution, tests.cases, roles=roles, only=only, graded=graded)
