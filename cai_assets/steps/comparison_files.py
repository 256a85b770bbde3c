"""Read files of human comparisons: which of two responses to a prompt people preferred.

Guarantee: every row read is a comparison or a reject with its place and reason. A comparison has a conversation that
ends with the user (checked like any prompt) and two different, visible responses. Understood are, in JSONL, Parquet or
Arrow files or a data set folder:

- a prompt (text or messages) with ``chosen`` and ``rejected``, text or messages, with or without the prompt's turns;
- whole transcripts in ``chosen`` and ``rejected`` that differ in the last turn only, as messages or as text with
  'Human:' and 'Assistant:' turns (hh-rlhf);
- a prompt with ``response_a``, ``response_b`` and ``human_label`` or ``label``, which is 'A' or 'B'.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cai_assets.engines.protocol import Message, Role
from cai_assets.steps.prompt_files import COLUMNS, Raw, RowFault, read_files
from cai_assets.steps.prompt_rows import PROMPT_KEYS, check_row, check_text, excerpt, message_of
from cai_assets.steps.prompts import REJECTS
from cai_assets.store.canonical import tagged_hash

SCHEMA = pl.Schema({
    "pair_id": pl.String(), "prompt_id": pl.String(),
    "messages": pl.List(pl.Struct({"role": pl.String(), "content": pl.String()})),
    "chosen": pl.String(), "rejected": pl.String(),
})
ANSWERS = ("chosen", "rejected", "response_a", "response_b", "human_label", "label")
_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


@dataclass(frozen=True)
class Comparisons:
    """``frame`` (SCHEMA), sorted by ``pair_id``, which is a hash of the texts; ``rejects``: place, reason, excerpt."""

    frame: pl.DataFrame
    rejects: pl.DataFrame


def read_comparisons(path: Path, *, limit: int | None = None) -> Comparisons:
    """Read all comparisons of a file or folder, or ``limit`` of them, drawn by their hashes: always the same ones.

    Raise PromptsError for a file that cannot be read at all.
    """
    pairs: dict[str, dict[str, object]] = {}
    rejects = []
    for raw in read_files([path], (*COLUMNS, *ANSWERS)):
        try:
            row = _comparison(raw)
            if row["pair_id"] in pairs:
                raise RowFault("repeats an earlier comparison")
        except RowFault as fault:
            rejects.append((raw.source, raw.line, str(fault), excerpt(raw)))
        else:
            pairs[str(row["pair_id"])] = row
    frame = pl.DataFrame(list(pairs.values()), schema=SCHEMA).sort("pair_id").head(limit or len(pairs))
    return Comparisons(frame, pl.DataFrame(rejects, schema=REJECTS, orient="row"))


def _comparison(raw: Raw) -> dict[str, object]:
    if isinstance(raw.value, RowFault):
        raise raw.value
    if not isinstance(raw.value, Mapping):
        raise RowFault("expected an object with 'prompt', 'chosen' and 'rejected'")
    row = raw.value
    has_prompt = any(row.get(k) is not None for k in PROMPT_KEYS)
    (before, chosen), (other, rejected) = (_reply(v, side, has_prompt) for side, v in _sides(row).items())
    if before and other and before != other:
        raise RowFault("chosen and rejected differ before their last turn: they answer different prompts")
    context = before or other
    prompt = check_row(Raw(raw.source, raw.line, _prompt(row, context)), max_chars=sys.maxsize, kind="helpful")
    if context and has_prompt and context[-1]["content"].strip() != _asked(raw, row):
        raise RowFault("chosen and rejected answer another prompt than the row's own")
    for text in (chosen, rejected):
        check_text(text)
    if chosen == rejected:
        raise RowFault("chosen and rejected are the same text")
    key = tagged_hash("comparison", [prompt.messages, chosen, rejected]).rpartition(":")[2][:16]
    return {"pair_id": f"h-{key}", "prompt_id": prompt.prompt_id, "messages": prompt.messages,
            "chosen": chosen, "rejected": rejected}


def _sides(row: Mapping[str, object]) -> dict[str, object]:
    """The values of chosen and rejected, of a labeled pair too."""
    if row.get("chosen") is None and row.get("response_a") is not None:
        label = row.get("human_label", row.get("label"))
        if label not in ("A", "B"):
            raise RowFault(f"no preference: the label must be 'A' or 'B', found {str(label)[:40]!r}")
        first, second = ("response_a", "response_b") if label == "A" else ("response_b", "response_a")
        return {first: row.get(first), second: row.get(second)}
    return {side: row.get(side) for side in ("chosen", "rejected")}


def _reply(value: object, side: str, has_prompt: bool) -> tuple[tuple[Message, ...], str]:
    """The turns before the response (none if the value is the response alone), and the response."""
    if isinstance(value, str):
        transcript = transcript_turns(value)
        if transcript is None and not has_prompt:
            raise RowFault(f"no prompt, and '{side}' is not a transcript of 'Human:' and 'Assistant:' turns")
        whole = transcript and transcript[0]["role"] == "user" and transcript[-1]["role"] == "assistant"
        turns = transcript if transcript and (whole or not has_prompt) else (Message(role="assistant", content=value),)
    elif isinstance(value, list) and value:
        turns = tuple(message_of(turn, f"{side}[{i}]") for i, turn in enumerate(value))
    else:
        raise RowFault(f"'{side}' is missing: needs 'chosen' and 'rejected', each text or messages")
    if turns[-1]["role"] != "assistant":
        raise RowFault(f"'{side}' does not end with a response by the assistant")
    return turns[:-1], turns[-1]["content"].strip()


def transcript_turns(text: str) -> tuple[Message, ...] | None:
    """The turns of 'Human: ... Assistant: ...' (hh-rlhf), stripped; None if it is not one."""
    lead, *parts = _TURN.split(text)
    if lead.strip() or not parts:
        return None
    return tuple(Message(role=_SPEAKERS[who], content=said.strip())
                 for who, said in zip(parts[::2], parts[1::2], strict=True))


def _prompt(row: Mapping[str, object], context: Sequence[Message]) -> dict[str, object]:
    """The row as a prompt file would have it, without its id: that names the pair."""
    if context:
        return {"messages": list(context)}
    prompt = {k: row[k] for k in (*PROMPT_KEYS, "input") if row.get(k) is not None}
    key = next((k for k in PROMPT_KEYS if k in prompt), None)
    text = prompt.get(key) if key else None
    turns = transcript_turns(text) if isinstance(text, str) else None
    if turns is None:
        return prompt
    return {"messages": list(turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns)}


def _asked(raw: Raw, row: Mapping[str, object]) -> str:
    prompt = check_row(Raw(raw.source, raw.line, _prompt(row, ())), max_chars=sys.maxsize, kind="helpful")
    return prompt.messages[-1]["content"].strip()
