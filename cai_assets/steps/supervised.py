"""The supervised data: revised responses to red-team prompts, and responses to helpful ones.

Bai et al. 2022 (section 3.2) train on the revisions of *all* rounds; other recipes keep the last. Helpful
prompts enter with the generator's own responses, uncritiqued, to keep the policy useful; general conversations
can be mixed in by share. A chain that stopped before its first revision adds no row.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from cai_assets.settings import Supervised
from cai_assets.steps.mix import as_rows, mix
from cai_assets.steps.shares import Report
from cai_assets.steps.thoughts import NO_THOUGHT, STATE, THOUGHT

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "prompt_id": pl.String, "kind": pl.String, "round": pl.Int32, "principle_id": pl.String,
    "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
    "response": pl.String, "finish": pl.String, "source": pl.String, "row_id": pl.String,
}

TRAINING = (pl.col("split") == "train") & (pl.col("response").fill_null("") != "")


class SupervisedRows(NamedTuple):
    """Training rows, and the result for each file that was mixed in."""

    frame: pl.DataFrame
    mixed: tuple[Report, ...]


def training_split(responses: pl.DataFrame) -> pl.DataFrame:
    """Rows that may be trained on: the train split, with a response."""
    return responses.filter(TRAINING)


def sl_dataset(responses: pl.DataFrame, revisions: pl.DataFrame, settings: Supervised) -> pl.DataFrame:
    """One row for each kept revision and each helpful response, in canonical order (prompt_id, round)."""
    train = training_split(responses)
    usable = revisions.filter(pl.col("revision").is_not_null())
    if settings.keep == "last":
        usable = usable.sort("prompt_id", "round").group_by("prompt_id", maintain_order=True).last()
    if settings.thoughts == "reasons":
        usable = _reasoned(usable)
        train = train.drop(NO_THOUGHT, strict=False)
    kept = [name for name in NO_THOUGHT if name in usable.columns]
    revised = usable.select("prompt_id", "round", "principle_id", pl.col("revision").alias("response"), "finish",
                            "row_id", *kept)
    revised = revised.join(train.select("prompt_id", "kind", "messages"), on="prompt_id", how="inner")
    helpful = train.filter(pl.col("kind") == "helpful") if settings.helpful else train.clear()
    return _rows([revised, helpful])


def _reasoned(revisions: pl.DataFrame) -> pl.DataFrame:
    """With their reasons as thoughts."""
    reason = pl.col("reason") if "reason" in revisions.columns else pl.lit(None, pl.String)
    return revisions.drop(NO_THOUGHT, strict=False).with_columns(
        reason.alias(THOUGHT), pl.when(reason.is_not_null()).then(pl.lit("valid")).alias(STATE))


def baseline_dataset(responses: pl.DataFrame, settings: Supervised, rounds: int) -> pl.DataFrame:
    """Plain SFT rows: initial responses to the same prompts, repeated to the same number of rows as the SL data."""
    train = training_split(responses)
    times = rounds if settings.keep == "all" else 1
    red_team = train.filter(pl.col("kind") == "red-team")
    repeated = [red_team.with_columns(round=pl.lit(i + 1, pl.Int32)) for i in range(times)]
    helpful = train.filter(pl.col("kind") == "helpful") if settings.helpful else train.clear()
    return _rows([*repeated, helpful])


def with_general(
    rows: pl.DataFrame, responses: pl.DataFrame, settings: Supervised, *, seed: int, max_chars: int
) -> SupervisedRows:
    """Mix the general conversations of ``settings.mix`` into rows of SCHEMA, in canonical order.

    ``responses``: those of the evaluation split are kept out of the mix. Raise DataError for an unreadable file.
    """
    evaluation = responses.filter(pl.col("split") == "evaluation")["messages"].to_list()
    mixed = mix(settings.mix, rows.height, evaluation, seed=seed, max_chars=max_chars)
    general = pl.DataFrame(as_rows(mixed.rows), schema=SCHEMA)
    return SupervisedRows(pl.concat([rows, general], how="diagonal").sort("prompt_id", "round"), mixed.reports)


def _rows(parts: list[pl.DataFrame]) -> pl.DataFrame:
    filled = []
    for part in parts:
        missing = {"round": pl.lit(0, pl.Int32), "principle_id": pl.lit(None, pl.String)}
        whole = part.with_columns(**{k: v for k, v in missing.items() if k not in part.columns},
                                  source=pl.lit(None, pl.String))  # of a general file: not a prompt file's name
        kept = [name for name in NO_THOUGHT if name in whole.columns]
        filled.append(whole.select(*(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()), *kept))
    return pl.concat(filled, how="diagonal").sort("prompt_id", "round")
