"""Answers of two versions to the same held-out prompts: those that got worse first, then those that differ most.

Guarantees: prompts are joined by their text as well as their id; worse is what the judge says of each against the base
model, and where it says the same, more words that only one of the answers has come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from cai_assets.reports.compare.revisions import share_changed

KEYS = ("prompt_id", "prompt", "sample")
SHOWN = 6
LOOKED_AT = 2000  # answers in other words that are measured; of more, those of the first prompts by id


class Pair(NamedTuple):
    """One prompt with both answers; ``*_verdict``: of the judge, against the base model; None if it gave none."""

    prompt_id: str
    prompt: str
    category: str
    before: str
    after: str
    before_verdict: str | None
    after_verdict: str | None
    share: float


class Answers(NamedTuple):
    """Of one policy: how many prompts both answered, how many in other words, and some of these."""

    policy: str
    both: int
    differ: int
    pairs: Sequence[Pair]


def compare_answers(before: pl.DataFrame, after: pl.DataFrame, policies: Sequence[str]) -> Answers | None:
    """Of the first policy that both have. ``before``, ``after``: rows of evaluations with the column ``prompt``."""
    policy = next((p for p in policies if all(p in rows["policy"] for rows in (before, after))), None)
    if policy is None:
        return None
    columns = [*KEYS, "category", "response", "verdict", "outcome"]
    old, new = (_with_sample(rows).filter(pl.col("policy") == policy, pl.col("response").is_not_null()).select(columns)
                for rows in (before, after))
    joined = old.join(new.drop("category"), on=KEYS, how="inner", suffix="_after", nulls_equal=True).sort(*KEYS)
    other = joined.filter(pl.col("response") != pl.col("response_after"))
    looked = other.head(LOOKED_AT)
    shares = [share_changed(a, b) for a, b in zip(looked["response"], looked["response_after"], strict=True)]
    lost = (pl.col("outcome_after") - pl.col("outcome")).fill_null(0.0)
    worst = looked.with_columns(lost=lost, share=pl.Series(shares, dtype=pl.Float64)).sort(
        "lost", "share", *KEYS, descending=[False, True, False, False, False]).head(SHOWN)
    return Answers(policy, joined.height, other.height, [
        Pair(r["prompt_id"], r["prompt"] or "", r["category"], r["response"], r["response_after"], r["verdict"],
             r["verdict_after"], r["share"]) for r in worst.iter_rows(named=True)])


def _with_sample(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of an earlier release have one answer to a prompt, and do not number it."""
    return rows if "sample" in rows.columns else rows.with_columns(sample=pl.lit(0, pl.Int64))
