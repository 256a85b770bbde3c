"""Reasons for revised answers: a short thought that cites the drawn principle, to be learned before the answer.

Deliberative data (Guan et al. 2024, Deliberative Alignment, arXiv 2412.16339) made of what the critique and revision
loop holds already: the principle, the critique, and the answer that came of it. A keyed row like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Message, Sampling, Style
from cai_assets.settings import Generation
from cai_assets.steps.compare import asked, framed
from cai_assets.steps.complete import Completer, Row, Step

REASON = Step("reason")
COLUMNS = {"reason": pl.String, "reason_error": pl.String, "row_key_reason": pl.String}
LONGEST = 128  # tokens
TASK = ("Say in one to three sentences, in the first person and before answering, what the request asks for, what the "
        "principle says about it, and what to do. Do not write the answer itself.")
LEAD = "By the principle {}, "


def with_reasons(
    revisions: pl.DataFrame, critiques: pl.DataFrame, prompts: pl.DataFrame, constitution: Constitution, *,
    complete: Completer, style: Style, generation: Generation,
) -> pl.DataFrame:
    """Add COLUMNS to every revision; those without a text have no reason. ``prompts``: prompt_id and messages."""
    said = critiques.select("prompt_id", "round", "critique")
    rows = revisions.join(said, on=["prompt_id", "round"], how="left", maintain_order="left").join(
        prompts.select("prompt_id", "messages"), on="prompt_id", how="left", maintain_order="left").to_dicts()
    wanted = [row for row in rows if row["revision"]]
    calls = [reason_call(row, constitution.principle(row["principle_id"]), style, generation) for row in wanted]
    found = iter(complete(REASON, calls, what="reasons of revisions") if calls else [])
    columns = [_columns(row, next(found) if row["revision"] else None) for row in rows]
    return revisions.hstack(pl.DataFrame(columns, schema=COLUMNS))


def reason_call(row: Mapping[str, Any], principle: Principle, style: Style, generation: Generation) -> Call:
    """A generating call for the reason of one revision, which begins with the principle's name."""
    messages: Sequence[Message] = row["messages"]
    critique = [("Critique of an earlier answer", row["critique"])] if row["critique"] else []
    frame = framed(messages, ("Principle", f"{principle.id}: {principle.revision}"), *critique,
                   ("Answer", row["revision"]), end=TASK)
    sampling = Sampling(temperature=generation.temperature, top_p=generation.top_p, stop=("\n\n", "\nConversation"),
                        max_tokens=min(LONGEST, generation.max_tokens))
    return Call(messages=asked(style, frame, LEAD.format(principle.id).rstrip()), style=style, sampling=sampling)


def _columns(row: Mapping[str, Any], found: Row | None) -> dict[str, str | None]:
    text = found.text.strip() if found and found.text else ""
    error = found.error or (None if text else "the reason came out empty") if found else None
    reason = f"{LEAD.format(row['principle_id'])}{text}" if text else None
    return {"reason": reason, "reason_error": error, "row_key_reason": found.row_key if found else None}
