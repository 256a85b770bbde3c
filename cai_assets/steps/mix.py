"""General conversations mixed into the supervised data by share (``shares.py``): none is mixed in whose prompt, or a
turn of it, is equal or nearly equal (``prompt_near``) to an evaluation prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from cai_assets.engines.protocol import Message
from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw
from cai_assets.reading.names import split_of_name
from cai_assets.reading.rows import ANSWERS, BAD_IF_FALSE, PROMPT_COLUMNS, conversation_of, fields_of
from cai_assets.settings.base import Source
from cai_assets.settings.columns import NO_MAP, Columns
from cai_assets.steps.prompt_near import near_to
from cai_assets.steps.prompt_rows import check_row, check_text, normalize
from cai_assets.steps.shares import GENERAL, Drawn, Form, Shares, shares
from cai_assets.store.keys import row_id

KNOWN = frozenset({*PROMPT_COLUMNS, *ANSWERS, *BAD_IF_FALSE, "id", "split"})


class Conversation(NamedTuple):
    """A prompt and its answer."""

    messages: tuple[Message, ...]
    response: str


def mix(
    sources: Sequence[Source], own: int, evaluation: Sequence[Sequence[Message]], *, seed: int, max_chars: int
) -> Shares[Conversation]:
    """Rows of each source that make it its share of the whole, ``own`` other rows included.

    ``evaluation``: prompts that no row may be near to. ``max_chars`` bounds a prompt, and an answer. Raise
    DataError for a file that cannot be read at all.
    """
    held_out = [text for messages in evaluation for text in texts_of(messages)]
    form = Form(KNOWN, usable=lambda raw, columns: conversation(raw, max_chars=max_chars, columns=columns),
                content=lambda row: (GENERAL, [list(row.messages), row.response]), near=partial(_near, held_out))
    return shares(form, sources, own, seed=seed)


def conversation(raw: Raw, *, max_chars: int, columns: Columns = NO_MAP) -> Conversation:
    """The prompt's turns and the answer of a row; raise RowFault, with the reason, if it cannot be trained on."""
    row = fields_of(raw.value, columns, "'messages', or with 'prompt' and 'response'")
    if "evaluation" in (raw.split, split_of_name(str(row.get("split") or ""))):
        raise RowFault("its split is for evaluation")
    turns, answer = conversation_of(row)
    messages = check_row(replace(raw, value={"messages": list(turns)}), max_chars=max_chars, kind="helpful").messages
    try:
        check_text(answer)
    except RowFault as fault:
        raise RowFault(f"the answer: {fault}") from None
    if len(answer) > max_chars:
        raise RowFault(f"the answer is too long: {len(answer):,} characters, the limit is {max_chars:,} "
                       "(prompts.max_chars)")
    return Conversation(messages, answer)


def _near(held_out: Sequence[str], rows: Sequence[Conversation]) -> set[int]:
    owners = [(i, text) for i, row in enumerate(rows) for text in texts_of(row.messages)]
    return {owners[at][0] for at in near_to(held_out, [text for _, text in owners])} if held_out else set()


def texts_of(messages: Sequence[Message]) -> list[str]:
    """What of a training prompt no evaluation prompt may be near, normalized: each turn by the user, and all turns."""
    turns = [m["content"] for m in messages if m["role"] == "user"]
    whole = [m["content"] for m in messages if m["role"] != "system"]
    return [normalize(text) for text in dict.fromkeys([*turns, "\n".join(whole)])]


def as_rows(conversations: Sequence[Drawn[Conversation]]) -> list[dict[str, object]]:
    """Rows of the SL data set."""
    return [{"prompt_id": c.name, "kind": GENERAL, "round": 0, "principle_id": None,
             "messages": list(c.row.messages), "response": c.row.response, "finish": "", "source": c.place,
             "row_id": row_id(GENERAL, c.row.response, [c.name])} for c in conversations]
