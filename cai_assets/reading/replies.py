"""Which response to which conversation a row prefers to which other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cai_assets.engines.protocol import Message
from cai_assets.reading.faults import RowFault
from cai_assets.reading.preferences import certainty, form_of, several
from cai_assets.reading.rows import Row, framed, stated_turns
from cai_assets.reading.turns import Turns, asked, json_turns, transcript_turns, turns_of


class Preference(NamedTuple):
    """``p_chosen``: the probability that the chosen response is better; 1 where the row says no other."""

    messages: Turns
    chosen: str
    rejected: str
    p_chosen: float


def preferences_of(row: Row) -> list[Preference]:
    """What the row prefers to what. Raise RowFault, with the reason, if it prefers nothing."""
    form = form_of(row)
    stated = stated_turns(row) if form.prompt else None
    own = None if stated is None else asked(stated)
    pairs = [pair for both in form.pairs(row) for pair in (several(*both) if own else [both])]
    p = certainty(row)
    return [_preference(row, own, chosen, rejected, p) for chosen, rejected in pairs]


def _preference(row: Row, own: Turns | None, chosen: object, rejected: object, p: float) -> Preference:
    before, better = _reply(chosen, "chosen", own is not None)
    other, worse = _reply(rejected, "rejected", own is not None)
    if before and other and before != other:
        raise RowFault("chosen and rejected differ before their last turn: they answer different prompts")
    messages = _conversation(before or other, own)
    if better == worse:
        raise RowFault("chosen and rejected are the same text")
    return Preference(framed(messages, row), better, worse, p)


def _conversation(context: Turns, own: Turns | None) -> Turns:
    """The turns to answer: those before the responses, or the row's own. They must be of one conversation."""
    if not context:
        return own or ()
    if own and context[-1]["content"].strip() != own[-1]["content"].strip():
        raise RowFault("chosen and rejected answer another prompt than the row's own")
    system = own[:1] if own and own[0]["role"] == "system" != context[0]["role"] else ()
    return (*system, *context)


def _reply(value: object, side: str, has_prompt: bool) -> tuple[Turns, str]:
    """The turns before the response (none if the value is the response alone), and the response."""
    turns = _turns(value, side, has_prompt)
    if not turns or turns[-1]["role"] != "assistant":
        raise RowFault(f"'{side}' does not end with a response by the assistant")
    return turns[:-1], turns[-1]["content"].strip()


def _turns(value: object, side: str, has_prompt: bool) -> Turns:
    if isinstance(value, str) and not json_turns(value):
        transcript = transcript_turns(value)
        if transcript is None and not has_prompt:
            raise RowFault(f"no prompt, and '{side}' is not a transcript of 'Human:' and 'Assistant:' turns")
        whole = transcript and transcript[0]["role"] == "user" and transcript[-1]["role"] == "assistant"
        alone = (Message(role="assistant", content=value),)
        return transcript if transcript and (whole or not has_prompt) else alone
    if isinstance(value, str | list | Mapping) and value:
        return turns_of(value, side)
    raise RowFault(f"'{side}' is missing: needs 'chosen' and 'rejected', each text or messages")
