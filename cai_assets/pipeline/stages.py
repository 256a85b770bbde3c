"""Each stage of the graph as a function of the settings and the tables above it.

Assets run these with a real completer; the plan runs the very same ones with a completer that only looks keys
up. So what is planned and what is done cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.engines.protocol import Call, Sampling
from cai_assets.evals import judge
from cai_assets.evals.evaluate import evaluate
from cai_assets.evals.gate import GateResult, measure_labeller
from cai_assets.pipeline.policies import samples_of
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.settings import Settings
from cai_assets.steps.comparisons import Mixed, comparisons, mix_human
from cai_assets.steps.complete import Completer, Row
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import pair_responses, pair_revisions
from cai_assets.steps.reinforce import pairs_to_train_on, prompts_to_train_on, with_requests
from cai_assets.steps.respond import respond
from cai_assets.steps.supervised import (
    SupervisedRows,
    baseline_dataset,
    sl_dataset,
    training_split,
    with_general,
)

JUDGE = judge.STEP


def initial_responses(settings: Settings, prompts: pl.DataFrame, *, complete: Completer) -> pl.DataFrame:
    g = settings.generation
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=g.max_tokens)
    return respond(prompts, complete=complete, sampling=sampling, what="initial responses")


def critiques_and_revisions(
    settings: Settings, constitution: Constitution, responses: pl.DataFrame, *, complete: Completer
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Only red-team prompts of the train split are critiqued."""
    red_team = responses.filter(pl.col("split") == "train", pl.col("kind") == "red-team")
    return critique_and_revise(red_team, constitution, complete=complete, settings=settings.critique,
                               generation=settings.generation)


def response_pairs(
    settings: Settings, responses: pl.DataFrame, revisions: pl.DataFrame, *, complete: Completer
) -> pl.DataFrame:
    """Pairs for each training prompt, by ``pairs.source``; 'revision' alone reads ``revisions``, and calls no model."""
    prompts, g = training_split(responses), settings.generation
    if settings.pairs.source == "revision":
        return pair_revisions(prompts, revisions, temperature=g.temperature)
    return pair_responses(prompts, complete=complete, settings=settings.pairs, max_tokens=g.max_tokens)


def preference_pairs(
    settings: Settings, constitution: Constitution, pairs: pl.DataFrame, *, complete: Completer
) -> pl.DataFrame:
    return label_pairs(pairs, constitution, complete=complete, settings=settings.labels)


def judge_gate(
    settings: Settings, constitution: Constitution, *, complete: Completer
) -> tuple[GateResult, pl.DataFrame]:
    """The labeller against people, asked as it is asked for labels: the measurement, and its labelled comparisons."""
    return measure_labeller(settings, constitution, complete=complete)


def evaluation_prompts(responses: pl.DataFrame) -> pl.DataFrame:
    return responses.filter(pl.col("split") == "evaluation").select("prompt_id", "kind", "category", "messages")


def policy_responses(settings: Settings, prompts: pl.DataFrame, *, complete: Completer, policy: str) -> pl.DataFrame:
    """What one policy answers to the evaluation prompts, with the column ``sample``, which counts from 0.

    The null row's samples are other ones than the base model's, and count from 0 as well: each has its counterpart.
    """
    g, indices = settings.generation, samples_of(settings, policy)
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=settings.evaluation.max_tokens)
    counted = prompts.join(pl.DataFrame({"sample": range(len(indices))}, {"sample": pl.Int64}), how="cross",
                           maintain_order="left_right")
    return respond(counted, complete=complete, sampling=sampling, what=f"{policy} responses",
                   samples=[indices[i] for i in counted["sample"].to_list()])


def judged(
    settings: Settings, constitution: Constitution, responses: Mapping[str, pl.DataFrame], *, complete: Completer
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Metrics and rows of every policy's responses, with ``base`` as the one to win over.

    Of the constitution only the evaluation requests are read.
    """
    def ask(calls: Sequence[Call]) -> list[Row]:
        return complete(JUDGE, calls, what="judge")

    return evaluate(responses, ask=ask, style=settings.labels.style, principles=constitution.taking_part("evaluation"),
                    confidence=settings.evaluation.confidence, enough=settings.evaluation.enough)


def supervised_rows(settings: Settings, responses: pl.DataFrame, revisions: pl.DataFrame) -> SupervisedRows:
    """What the SL policy is trained on."""
    return _mixed(settings, responses, sl_dataset(responses, revisions, settings.supervised))


def baseline_rows(settings: Settings, responses: pl.DataFrame) -> pl.DataFrame:
    """Initial responses with the same mix: as many rows as the SL policy has if no chain ends early."""
    own = baseline_dataset(responses, settings.supervised, settings.critique.rounds)
    return _mixed(settings, responses, own).frame


def _mixed(settings: Settings, responses: pl.DataFrame, own: pl.DataFrame) -> SupervisedRows:
    return with_general(own, responses, settings.supervised, seed=settings.seed, max_chars=settings.prompts.max_chars)


def supervised_training(dataset: pl.DataFrame) -> pl.DataFrame:
    """The columns of an SL (or baseline) data set that are trained on."""
    return dataset.select("messages", "response")


def reward_training(comparisons_: pl.DataFrame) -> pl.DataFrame:
    """The columns of the reward model's comparisons that decide its training."""
    return comparisons_.select("messages", "chosen", "rejected", "p_chosen", "held_out")


def reward_comparisons(settings: Settings, labelled: pl.DataFrame, responses: pl.DataFrame) -> Mixed:
    """AI-labelled comparisons, with human ones if set. ``responses``: the round's first, which know its prompts."""
    reward = settings.reward
    rows = comparisons(labelled, reward.held_out)
    if reward.human is None:
        return Mixed(rows)
    return mix_human(rows, reward.human, held_out=reward.held_out, evaluation=evaluation_prompts(responses))


def reinforcement_rows(settings: Settings, constitution: Constitution, pairs: pl.DataFrame) -> pl.DataFrame:
    """Each prompt once, or for DPO each graded pair, in canonical order, with the held-out prompts marked.

    ``pairs``: the table that the algorithm reads. For a reward that reads requests, each row has its own.
    """
    rl, algorithm = settings.rl, ALGORITHMS[settings.rl.algorithm]
    match algorithm.reads:
        case "response_pairs":
            rows = prompts_to_train_on(pairs, rl.held_out)
        case "preference_pairs":
            rows = pairs_to_train_on(pairs, rl.held_out)
        case _:
            assert_never(algorithm.reads)
    if "request" not in REWARDS[rl.reward].columns:
        return rows
    # An algorithm that samples nothing to train on has only responses to the held-out prompts graded.
    return with_requests(rows, constitution, held_out=not algorithm.online)


def reinforcement_training(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of reinforcement learning's rows that decide its training."""
    return rows.drop("pair_id", "prompt_id", "graded_by", strict=False)
