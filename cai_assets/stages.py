"""Each stage of the graph as a function of the settings and the tables above it.

Assets run these with a real completer; the plan runs the very same ones with a completer that only looks keys
up. So what is planned and what is done cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.engines.protocol import Call, ModelIdentity, Sampling
from cai_assets.evals.evaluate import evaluate
from cai_assets.lineage.keys import checkpoint_key
from cai_assets.lineage.records import table_digest
from cai_assets.settings import Settings, Training
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.label import comparisons, label_pairs
from cai_assets.steps.pair import pair_responses
from cai_assets.steps.respond import respond
from cai_assets.steps.supervised import baseline_dataset, training_split
from cai_assets.train.job import CODE_VERSION, Kind

TRAINING_GROUP: dict[Kind, str] = {"supervised": "sl", "reward": "reward", "reinforcement": "rl"}
NOT_IN_KEY = {"save_every"}
JUDGE = Step("judge")
TRAINED_POLICIES = ("sft_baseline", "sl_policy", "rl_policy")


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


def response_pairs(settings: Settings, responses: pl.DataFrame, *, complete: Completer) -> pl.DataFrame:
    return pair_responses(training_split(responses), complete=complete, settings=settings.pairs,
                          max_tokens=settings.generation.max_tokens)


def preference_pairs(
    settings: Settings, constitution: Constitution, pairs: pl.DataFrame, *, complete: Completer
) -> pl.DataFrame:
    return label_pairs(pairs, constitution, complete=complete, settings=settings.labels)


def evaluation_prompts(responses: pl.DataFrame) -> pl.DataFrame:
    return responses.filter(pl.col("split") == "evaluation").select("prompt_id", "kind", "category", "messages")


def policy_responses(settings: Settings, prompts: pl.DataFrame, *, complete: Completer, policy: str) -> pl.DataFrame:
    """What one policy answers to the evaluation prompts."""
    g = settings.generation
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=settings.evaluation.max_tokens)
    return respond(prompts, complete=complete, sampling=sampling, what=f"{policy} responses")


def judged(
    settings: Settings, responses: Mapping[str, pl.DataFrame], *, complete: Completer
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Metrics and rows of every policy's responses, with ``base`` as the one to win over."""
    def ask(calls: Sequence[Call]) -> list[Row]:
        return complete(JUDGE, calls, what="judge")

    return evaluate(responses, ask=ask, style=settings.labels.style, confidence=settings.evaluation.confidence)


def baseline_rows(settings: Settings, responses: pl.DataFrame) -> pl.DataFrame:
    return baseline_dataset(responses, settings.supervised, settings.critique.rounds)


def supervised_training(dataset: pl.DataFrame) -> pl.DataFrame:
    """The columns of an SL (or baseline) data set that are trained on."""
    return dataset.select("messages", "response")


def reward_training(comparisons_: pl.DataFrame) -> pl.DataFrame:
    return comparisons_.select("messages", "chosen", "rejected", "p_chosen", "held_out")


def reward_comparisons(settings: Settings, labelled: pl.DataFrame) -> pl.DataFrame:
    return comparisons(labelled, settings.reward.held_out)


def reinforcement_training(pairs: pl.DataFrame) -> pl.DataFrame:
    """Each prompt once, in canonical order."""
    return pairs.unique("prompt_id", maintain_order=True).sort("prompt_id").select("messages")


def recipe(settings: Settings, kind: Kind) -> dict[str, object]:
    """The settings that decide a training's result."""
    group: Training = getattr(settings, TRAINING_GROUP[kind])
    return {**group.model_dump(mode="json", exclude=NOT_IN_KEY), "dtype": settings.engine.dtype}


def training_key(
    settings: Settings, kind: Kind, rows: pl.DataFrame, base: ModelIdentity, *, reward_model: str | None = None
) -> str:
    """The key of the checkpoint that training on these rows makes."""
    extra = {"reward_model": reward_model} if reward_model else {}
    return checkpoint_key(kind, code_version=CODE_VERSION[kind], rows=table_digest(rows), base=base,
                          settings=recipe(settings, kind), seed=settings.seed, extra=extra)
