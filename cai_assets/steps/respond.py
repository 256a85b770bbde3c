"""Responses to prompts: initial ones, and those of any policy for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import polars as pl

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.steps.complete import Completer, Step
from cai_assets.steps.tables import table
from cai_assets.steps.thoughts import thought_fields, thought_schema
from cai_assets.store.keys import row_id

RESPOND = Step("respond")
ADDED = dict.fromkeys(("response", "finish", "error", "row_key", "row_id"), pl.String)


def respond(
    prompts: pl.DataFrame, *, complete: Completer, sampling: Sampling, what: str = "responses",
    samples: Sequence[int] | None = None,
) -> pl.DataFrame:
    """Add ``response`` (null if it failed), ``finish``, ``error``, ``row_key`` and ``row_id`` to each prompt row.

    Where the model's thoughts are kept, also ``thought`` and ``thought_state``. Needs columns ``prompt_id`` and
    ``messages``. Same rows, same order. ``samples``: the sample index of each row,
    for a prompt that is answered several times.
    """
    calls = (Call(messages=tuple(row["messages"]), sampling=sampling, sample=sample) for row, sample in zip(
        prompts.select("messages").iter_rows(named=True), samples or repeat(0), strict=False))
    rows = complete.each(RESPOND, calls, count=prompts.height, what=what)
    answers = ({
        "response": None if row.text is None else row.text.strip(), "finish": row.finish, "error": row.error,
        "row_key": row.row_key, "row_id": row_id(row.row_key, row.text, [prompt]), **thought_fields(row)}
        for prompt, row in zip(prompts["prompt_id"], rows, strict=True))
    return prompts.with_columns(table(answers, ADDED | thought_schema(complete)).get_columns())
