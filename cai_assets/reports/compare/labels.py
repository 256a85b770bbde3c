"""Which labels flipped, on pairs that both versions labeled.

Guarantees: labels are compared only where conversation and both responses are the same texts, whichever is called A;
the n-th of equal pairs meets the n-th; all others are counted. Each version's own rates stand beside it, for with
different SL policies there is often no pair in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from cai_assets.evals.statistics import Estimate, mean, proportion
from cai_assets.settings.method import CONFIDENCE

NEEDED = ("pair_id", "prompt_id", "messages", "response_a", "response_b", "principle_id", "p_a", "label")


@dataclass(frozen=True)
class Rates:
    """How one version was labeled. ``consistent``: graded pairs whose label both orders agree on; the rest tie.
    ``strength``: the mean of |p - 0.5| + 0.5."""

    pairs: int
    ungraded: int
    consistent: Estimate
    ties: Estimate
    strength: Estimate


@dataclass(frozen=True)
class Labels:
    """``shared``: pairs with the same texts that both graded. ``flips``: of those decided in both, the share with
    another winner. ``shift``: mean |change of probability|, one value a prompt. ``moves``: before, after, pairs.
    ``by_principle``: by the principle that judges now. ``examples``: flipped pairs, largest shift first."""

    before: Rates
    after: Rates
    shared: int
    only_before: int
    only_after: int
    flips: Estimate
    shift: Estimate
    moves: pl.DataFrame
    by_principle: pl.DataFrame
    examples: pl.DataFrame


def compare_labels(
    before: pl.DataFrame, after: pl.DataFrame, shown: int = 8, *, confidence: float = CONFIDENCE
) -> Labels:
    """``before``, ``after``: tables of preference_pairs."""
    old, new = _oriented(before), _oriented(after)
    pairs = old.join(new, on=["text", "nth"], how="inner", suffix="_after").with_columns(
        (pl.col("p_after") - pl.col("p")).alias("shift"),
        (pl.col("side").is_in(["1", "2"]) & pl.col("side_after").is_in(["1", "2"])).alias("decided"))
    pairs = pairs.with_columns((pl.col("decided") & (pl.col("side") != pl.col("side_after"))).alias("flipped"))
    graded = pairs.filter(pl.col("shift").is_not_null())
    per_prompt = graded.group_by("prompt_id").agg(pl.col("shift").abs().mean()).sort("prompt_id")["shift"].to_list()
    examples = graded.filter("flipped").sort(pl.col("shift").abs(), "text", descending=[True, False]).head(shown)
    return Labels(
        rates(before, confidence), rates(after, confidence), graded.height, before.height - pairs.height,
        after.height - pairs.height, _flips(graded, confidence), mean(per_prompt, confidence), _moves(pairs),
        _by_principle(graded, confidence),
        examples.select("prompt_id", "first", "second", "principle_id", "principle_id_after", "p", "p_after"))


def _flips(pairs: pl.DataFrame, confidence: float) -> Estimate:
    return proportion(int(pairs["flipped"].sum()), int(pairs["decided"].sum()), confidence)


def rates(labeled: pl.DataFrame, confidence: float = CONFIDENCE) -> Rates:
    """The rates of one table."""
    graded = labeled.filter(pl.col("p_a").is_not_null())
    ties = graded.filter(label="tie").height
    strengths = (graded["p_a"] - 0.5).abs() + 0.5
    return Rates(labeled.height, labeled.height - graded.height,
                 proportion(graded.height - ties, graded.height, confidence),
                 proportion(ties, graded.height, confidence), mean(strengths.to_list(), confidence))


def with_text(frame: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    """Add ``swapped`` (b comes before a), and ``text`` and ``nth``, which name a pair whatever its sides are called."""
    swapped = pl.col(b) < pl.col(a)
    prompt = pl.col("messages").list.eval(pl.element().struct.json_encode()).list.join("\n")
    first, second = (pl.when(swapped).then(pl.col(x)).otherwise(pl.col(y)) for x, y in ((b, a), (a, b)))
    named = frame.with_columns(swapped.fill_null(value=False).alias("swapped"), first.alias("first"),
                               second.alias("second"),
                               pl.struct(prompt.alias("m"), first.alias("f"), second.alias("s")).struct.json_encode()
                               .alias("text"))
    return named.with_columns(pl.int_range(pl.len()).over("text").alias("nth"))


def _oriented(labeled: pl.DataFrame) -> pl.DataFrame:
    """``p``: probability of the response that sorts first; ``side``: '1' or '2' for the winner, else the label."""
    graded = with_text(labeled.select(NEEDED).sort("pair_id").filter(
        pl.col("response_a").is_not_null() & pl.col("response_b").is_not_null()), "response_a", "response_b")
    won = pl.when(pl.col("swapped")).then(pl.col("label").replace({"A": "2", "B": "1"})).otherwise(
        pl.col("label").replace({"A": "1", "B": "2"}))
    p = pl.when(pl.col("swapped")).then(1 - pl.col("p_a")).otherwise(pl.col("p_a"))
    return graded.select("prompt_id", "text", "nth", "first", "second", "principle_id", p.alias("p"), won.alias("side"))


def _moves(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs by what was and is preferred: '1' and '2' are the responses in the order of their texts."""
    return pairs.group_by(pl.col("side").alias("before"), pl.col("side_after").alias("after")).agg(
        pl.len().alias("pairs")).sort("before", "after")


def _by_principle(graded: pl.DataFrame, confidence: float) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for (principle,), mine in graded.group_by(["principle_id_after"]):
        redrawn = mine.filter(pl.col("principle_id").ne_missing(pl.col("principle_id_after"))).height
        flips = _flips(mine, confidence)
        rows.append({"principle": principle, "pairs": mine.height, "drawn anew": redrawn,
                     "flipped": int(mine["flipped"].sum()), "share": flips.value, "low": flips.low, "high": flips.high,
                     "mean shift": mine["shift"].abs().mean()})
    schema = {"principle": pl.String, "pairs": pl.Int64, "drawn anew": pl.Int64, "flipped": pl.Int64,
              "share": pl.Float64, "low": pl.Float64, "high": pl.Float64, "mean shift": pl.Float64}
    return pl.DataFrame(rows, schema=schema).sort("flipped", "principle", descending=[True, False])
