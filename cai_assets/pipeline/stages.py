"""Each table of the graph as one function of its context, under the asset's name.

A large table is given in parts, which are made while they are taken: whoever stores them holds few of its rows.
Dagster runs these for real and a plan runs the very same ones with completers that only look keys up: which table is
read, who is asked and under which settings is said here alone. So what is planned and what is done cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, assert_never

import polars as pl

from cai_assets.constitution.clauses import explained
from cai_assets.engines.protocol import Sampling
from cai_assets.evals.benchmarks import measure_benchmarks
from cai_assets.evals.gate import GateResult, label_people, measure_labeller
from cai_assets.pipeline.absent import refuse_absent
from cai_assets.pipeline.context import Context
from cai_assets.settings import Settings
from cai_assets.steps import critique, respond, supervised
from cai_assets.steps.complete import Completer
from cai_assets.steps.in_context import answers_in_context
from cai_assets.steps.label import labels_of
from cai_assets.steps.pair import pair_revisions, paired, pairs_of
from cai_assets.steps.prompts import SCHEMA as PROMPTS
from cai_assets.steps.prompts import Loaded, load_prompts, refuse_empty, select
from cai_assets.steps.reason import with_reasons
from cai_assets.steps.shares import Report
from cai_assets.steps.tables import whole
from cai_assets.store.tables import Parts, aligned

HELD_OUT = pl.col("split") == "evaluation"
RED_TEAM = (pl.col("split") == "train") & (pl.col("kind") == "red-team")
ASKED = ("prompt_id", "kind", "category", "messages")
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


def prompts(settings: Settings, *, repeats: bool = True) -> Prompts:
    """Raise DataError if a file cannot be read, or there is no prompt for one of the splits. ``repeats``: as of
    ``load_prompts``."""
    wanted = settings.prompts
    loaded = load_prompts(wanted.paths, max_chars=wanted.max_chars, columns=wanted.columns, repeats=repeats)
    refuse_empty(loaded)
    frame = select(loaded.frame, wanted, seed=settings.seed, first=loaded.origins["prompt_id"].to_list())
    return Prompts(frame, loaded)


def initial_responses(run: Context) -> Parts:
    asked = run.table("prompts")
    if not run.settings.written.on:
        return _responses(run, asked.parts(), asked.height, run.complete("generator"))
    every = pl.concat([asked.read(), run.read("written_prompts", *PROMPTS.names())]).unique(
        "prompt_id", keep="first", maintain_order=True).sort("prompt_id")
    return _responses(run, [every], every.height, run.complete("generator"))


def starting_responses(run: Context) -> Parts:
    """In round 1 the initial responses themselves; later the RL policy of the round before responds."""
    responses = run.table("initial_responses")
    if run.before() is None:
        return responses.parts()
    return _responses(run, responses.parts(*PROMPTS.names()), responses.height, run.complete("responder"))


def _responses(run: Context, asked: Parts, count: int, complete: Completer) -> Parts:
    g = run.settings.generation
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=g.max_tokens)
    return respond.responses(asked, count, complete=complete, sampling=sampling, what="initial responses")


def critiques_and_revisions(run: Context) -> Iterator[tuple[pl.DataFrame, ...]]:
    """Only red-team prompts of the train split are critiqued, or answered again with a principle in view."""
    run.note("constitution")
    settings, responses = run.settings, run.table("starting_responses")
    complete, make = (run.complete("responder"), answers_in_context) if settings.sl.source == "in_context" else (
        run.complete("critic"), critique.critiques_and_revisions)
    red_team = (part.filter(RED_TEAM) for part in responses.in_order())
    made = make(red_team, responses.count(RED_TEAM), run.constitution, complete=complete, settings=settings.critique,
                generation=settings.generation)
    if settings.supervised.thoughts != "reasons":
        return made
    known = explained(run.constitution, ("revision",)) if settings.critique.why else run.constitution
    critiques, revisions = whole(made)
    return iter([(critiques, with_reasons(
        revisions, critiques, responses.read("prompt_id", "messages", where=RED_TEAM), known, complete=complete,
        style=settings.critique.style, generation=settings.generation))])


class SupervisedParts(NamedTuple):
    """The rows of ``supervised.SupervisedRows``, in parts."""

    parts: Parts
    mixed: tuple[Report, ...] = ()


def sl_dataset(run: Context) -> SupervisedParts:
    """What the SL policy is trained on."""
    revisions, responses, settings = run.table("revisions"), run.table("starting_responses"), run.settings
    own = (supervised.sl_dataset(some, revised, settings.supervised) for some, revised in aligned(
        responses.in_order(), revisions.in_order()))
    if not settings.supervised.mix:
        return SupervisedParts(own)
    every = mixed(settings, responses.read("split", "messages"), pl.concat(own))
    return SupervisedParts([every.frame], every.mixed)


def mixed(settings: Settings, responses: pl.DataFrame, own: pl.DataFrame) -> supervised.SupervisedRows:
    """Rows of ours with the general conversations that are mixed in."""
    return supervised.with_general(own, responses, settings.supervised, seed=settings.seed,
                                   max_chars=settings.prompts.max_chars)


def response_pairs(run: Context) -> Parts:
    """Pairs for each training prompt, by ``pairs.source``; 'revision' alone reads revisions, and calls no model."""
    responses, settings = run.table("starting_responses"), run.settings
    match settings.pairs.source:
        case "revision":
            refuse_absent(run.constitution, "revisions", "pairs.source='revision' pairs responses with revisions")
            return (pair_revisions(supervised.training_split(some), revisions,
                                   temperature=settings.generation.temperature)
                    for some, revisions in aligned(responses.in_order(), run.table("revisions").in_order()))
        case "policy":
            policy = run.first_had(*BEFORE_RL)
            complete = run.complete_as(policy) if policy else run.complete("start")
        case "generator":
            complete = run.complete("generator")
        case _:
            assert_never(settings.pairs.source)
    trained = supervised.TRAINING & paired(settings.pairs)
    some = (part.filter(trained) for part in responses.in_order("kind", "category", "messages", "split", "response"))
    return pairs_of(some, responses.count(trained), complete=complete, settings=settings.pairs,
                    max_tokens=settings.generation.max_tokens)


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


def preference_pairs(run: Context) -> Parts:
    run.note("constitution")
    pairs = run.table("response_pairs")
    return labels_of(pairs.parts(), pairs.height, run.constitution, complete=run.complete("labeller"),
                     settings=run.settings.labels)
