"""Responses to prompts: initial ones, and those of any policy for evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat, tee

import polars as pl

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.tables import beside
from cai_assets.steps.thoughts import thought_fields, thought_schema
from cai_assets.store.keys import row_id
from cai_assets.store.tables import Parts

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
    return pl.concat(responses([prompts], prompts.height, complete=complete, sampling=sampling, what=what,
                               samples=samples))


def responses(
    prompts: Parts, count: int, *, complete: Completer, sampling: Sampling, what: str,
    samples: Iterable[int] | None = None,
) -> Iterator[pl.DataFrame]:
    """As ``respond``, a part at a time, of ``count`` prompts."""
    asked, named, wanted = tee(prompts, 3)
    calls = (Call(messages=tuple(messages), sampling=sampling, sample=sample) for (messages,), sample in zip(
        (row for part in asked for row in part.select("messages").iter_rows()), samples or repeat(0), strict=False))
    rows = complete.each(RESPOND, calls, count=count, what=what)
    return _answered(wanted, (prompt for part in named for prompt in part["prompt_id"]), rows, complete)


def answered(prompts: pl.DataFrame, rows: Iterable[Row], complete: Completer) -> pl.DataFrame:
    """What ``respond`` returns, of the row of each prompt."""
    return pl.concat(_answered([prompts], prompts["prompt_id"], rows, complete))


def response_of(row: Row) -> str | None:
    """The text of a response; None if it failed."""
    return None if row.text is None else row.text.strip()


def response_fields(prompt_id: str, row: Row) -> dict[str, str | None]:
    """What ``respond`` adds to a prompt."""
    return {"response": response_of(row), "finish": row.finish, "error": row.error, "row_key": row.row_key,
            "row_id": row_id(row.row_key, row.text, [prompt_id]), **thought_fields(row)}


def _answered(
    prompts: Parts, ids: Iterable[str], rows: Iterable[Row], complete: Completer
) -> Iterator[pl.DataFrame]:
    answers = (response_fields(prompt, row) for prompt, row in zip(ids, rows, strict=True))
    return beside(prompts, answers, ADDED | thought_schema(complete))
