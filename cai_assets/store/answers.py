"""What counts as an answer: log-probabilities that a model can have given.

Held where results are stored and where stored rows are read, so that one broken reply is asked again instead of being
kept forever. Minus infinity is an answer: the model rules that one out, and a step that needs more says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

ROUNDING = 1e-3
"""By how much a log-probability may exceed 0: sums of rounded ones do, and the coarsest servers give 3 digits."""
STAND_IN = -1000.0
"""Below it a finite log-probability stands for one that was not measured: APIs write -9999 there."""


def no_answer(logprobs: Sequence[float]) -> str | None:
    """Why these natural log-probabilities cannot be a model's; None if they can."""
    for p in logprobs:
        if math.isnan(p) or p > ROUNDING:
            return f"log-probability {p:g} is not one that a model can give"
        if -math.inf < p < STAND_IN:
            return f"log-probability {p:g} stands for one that was not measured"
    return None


def unanswered(rows: pl.DataFrame) -> dict[str, str]:
    """The stored rows (``row_key``, ``logprobs``) that hold no answer, by key, each with its reason."""
    scored = rows.filter(pl.col("logprobs").list.len() > 0).select("row_key", "logprobs")
    return {key: why for key, logprobs in scored.iter_rows() if (why := no_answer(logprobs))}
