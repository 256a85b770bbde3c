"""Responses to prompts: initial ones, and those of any policy for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.steps.complete import Completer, Step
from cai_assets.steps.thoughts import thought_columns
from cai_assets.store.keys import row_id

RESPOND = Step("respond")


def respond(
    prompts: pl.DataFrame, *, complete: Completer, sampling: Sampling, what: str = "responses",
    samples: Sequence[int] | None = None,
) -> pl.DataFrame:
    """Add ``response`` (null if it failed), ``finish``, ``error``, ``row_key`` and ``row_id`` to each prompt row.

    Where the model's thoughts are kept, also ``thought`` and ``thought_state``. Needs columns ``prompt_id`` and
    ``messages``. Same rows, same order. ``samples``: the sample index of each row,
    for a prompt that is answered several times.
    """
    calls = [Call(messages=tuple(m), sampling=sampling, sample=i)
             for m, i in zip(prompts["messages"].to_list(), samples or [0] * prompts.height, strict=True)]
    rows = complete(RESPOND, calls, what=what)
    parents = prompts["prompt_id"].to_list()
    return prompts.with_columns(
        pl.Series("response", [None if r.text is None else r.text.strip() for r in rows], dtype=pl.String),
        pl.Series("finish", [r.finish for r in rows], dtype=pl.String),
        pl.Series("error", [r.error for r in rows], dtype=pl.String),
        pl.Series("row_key", [r.row_key for r in rows], dtype=pl.String),
        pl.Series("row_id", [row_id(r.row_key, r.text, [p]) for r, p in zip(rows, parents, strict=True)],
                  dtype=pl.String),
        *thought_columns(rows, complete),
    )
