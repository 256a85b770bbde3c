"""Each table of the graph as one function of its context, under the asset's name.

Dagster runs these for real and a plan runs the very same ones with completers that only look keys up: which table is
read, who is asked and under which settings is said here alone. So what is planned and what is done cannot drift apart.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

import polars as pl

from cai_assets.constitution.clauses import explained
from cai_assets.engines.protocol import Sampling
from cai_assets.evals.benchmarks import measure_benchmarks
from cai_assets.evals.gate import GateResult, label_people, measure_labeller
from cai_assets.pipeline.absent import refuse_absent
from cai_assets.pipeline.context import Context
from cai_assets.settings import Settings
from cai_assets.steps import supervised
from cai_assets.steps.complete import Completer
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.in_context import answer_in_context
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import pair_responses, pair_revisions
from cai_assets.steps.prompts import SCHEMA as PROMPTS
from cai_assets.steps.prompts import Loaded, load_prompts, refuse_empty, select
from cai_assets.steps.reason import with_reasons
from cai_assets.steps.respond import respond

BEFORE_RL = ("sl_policy", "mid_policy")  # RL starts from the first of these that the version has


class Prompts(NamedTuple):
    """Those selected, and all that the files hold."""

    frame: pl.DataFrame
    loaded: Loaded


class Gate(NamedTuple):
    """How far the labeller agrees with people, the comparisons that measured it, and those of the benchmarks."""

    result: GateResult
    rows: pl.DataFrame
    benchmark_rows: pl.DataFrame | None


def prompts(settings: Settings) -> Prompts:
    """Raise DataError if a file cannot be read, or there is no prompt for one of the splits."""
    wanted = settings.prompts
    loaded = load_prompts(wanted.paths, max_chars=wanted.max_chars, columns=wanted.columns)
    refuse_empty(loaded)
    frame = select(loaded.frame, wanted, seed=settings.seed, first=loaded.origins["prompt_id"].to_list())
    return Prompts(frame, loaded)


def initial_responses(run: Context) -> pl.DataFrame:
    asked = run.read("prompts")
    if run.settings.written.on:
        asked = pl.concat([asked, run.read("written_prompts").select(PROMPTS.names())]).unique(
            "prompt_id", keep="first", maintain_order=True).sort("prompt_id")
    return _responses(run, asked, run.complete("generator"))


def starting_responses(run: Context) -> pl.DataFrame:
    """In round 1 the initial responses themselves; later the RL policy of the round before responds."""
    responses = run.read("initial_responses")
    if run.before() is None:
        return responses
    return _responses(run, responses.select(PROMPTS.names()), run.complete("responder"))


def _responses(run: Context, asked: pl.DataFrame, complete: Completer) -> pl.DataFrame:
    g = run.settings.generation
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=g.max_tokens)
    return respond(asked, complete=complete, sampling=sampling, what="initial responses")


def critiques_and_revisions(run: Context) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Only red-team prompts of the train split are critiqued, or answered again with a principle in view."""
    run.note("constitution")
    responses = run.read("starting_responses")
    red_team = responses.filter(pl.col("split") == "train", pl.col("kind") == "red-team")
    settings = run.settings
    in_context = settings.sl.source == "in_context"
    complete, make = (run.complete("responder"), answer_in_context) if in_context else (
        run.complete("critic"), critique_and_revise)
    critiques, revisions = make(red_team, run.constitution, complete=complete, settings=settings.critique,
                                generation=settings.generation)
    if settings.supervised.thoughts == "reasons":
        known = explained(run.constitution, ("revision",)) if settings.critique.why else run.constitution
        revisions = with_reasons(revisions, critiques, red_team, known, complete=complete,
                                 style=settings.critique.style, generation=settings.generation)
    return critiques, revisions


def sl_dataset(run: Context) -> supervised.SupervisedRows:
    """What the SL policy is trained on."""
    revisions, responses = run.read("revisions"), run.read("starting_responses")
    own = supervised.sl_dataset(responses, revisions, run.settings.supervised)
    return mixed(run.settings, responses, own)


def mixed(settings: Settings, responses: pl.DataFrame, own: pl.DataFrame) -> supervised.SupervisedRows:
    """Rows of ours with the general conversations that are mixed in."""
    return supervised.with_general(own, responses, settings.supervised, seed=settings.seed,
                                   max_chars=settings.prompts.max_chars)


def response_pairs(run: Context) -> pl.DataFrame:
    """Pairs for each training prompt, by ``pairs.source``; 'revision' alone reads revisions, and calls no model."""
    asked, settings = supervised.training_split(run.read("starting_responses")), run.settings
    match settings.pairs.source:
        case "revision":
            refuse_absent(run.constitution, "revisions", "pairs.source='revision' pairs responses with revisions")
            return pair_revisions(asked, run.read("revisions"), temperature=settings.generation.temperature)
        case "policy":
            policy = run.first_had(*BEFORE_RL)
            complete = run.complete_as(policy) if policy else run.complete("start")
        case "generator":
            complete = run.complete("generator")
        case _:
            assert_never(settings.pairs.source)
    return pair_responses(asked, complete=complete, settings=settings.pairs, max_tokens=settings.generation.max_tokens)


def judge_gate(run: Context) -> Gate:
    """The labeller against people, asked as it is asked for labels."""
    run.note("constitution")
    complete = run.complete("labeller")
    result, rows = measure_labeller(run.settings, run.constitution, complete=complete)
    if not run.settings.gate.benchmarks:
        return Gate(result, rows, None)
    measured, asked = measure_benchmarks(run.settings, run.constitution, complete=complete)
    return Gate(result.model_copy(update={"benchmarks": measured}), rows, asked)


def gate_labels(run: Context) -> None:
    """Ask what the gate asks, for a plan, which needs no figures of it."""
    run.note("constitution")
    complete = run.complete("labeller")
    label_people(run.settings, run.constitution, complete=complete)
    if run.settings.gate.benchmarks:
        measure_benchmarks(run.settings, run.constitution, complete=complete)


def preference_pairs(run: Context) -> pl.DataFrame:
    run.note("constitution")
    return label_pairs(run.read("response_pairs"), run.constitution, complete=run.complete("labeller"),
                       settings=run.settings.labels)


def evaluation_prompts(responses: pl.DataFrame) -> pl.DataFrame:
    """The prompts that are kept apart from training. ``responses``: the round's first, which know its prompts."""
    return responses.filter(pl.col("split") == "evaluation").select("prompt_id", "kind", "category", "messages")
