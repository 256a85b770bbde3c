"""Conversations in the spellings that people publish: messages, ShareGPT, transcripts, JSON text, parts of content.

Guarantee: a text is kept character for character, except in transcripts, whose turns are stripped; whatever has no
meaning here (a tool, an image, an unknown speaker) is a fault that names it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence

from cai_assets.engines.protocol import Message, Role
from cai_assets.reading.faults import RowFault, printable, type_of

Turns = tuple[Message, ...]

ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "ai": "assistant", "model": "assistant",
    "bot": "assistant"}
TOOLS = {"tool", "tools", "function", "function_call", "function_response", "observation", "tool_call", "tool_calls",
         "tool_response", "tool_result", "ipython"}
SPEAKER, CONTENT = ("role", "from", "speaker"), ("content", "value", "text", "parts")
_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def turns_of(value: object, where: str) -> Turns:
    """The turns of a column: text, a transcript, a message, or a list of messages, which may be written as JSON text.

    ``where`` is the column's name, for reasons. Raise RowFault if it is none of these.
    """
    if isinstance(value, str):
        listed = json_turns(value)
        return turns_of(listed, where) if listed else transcript_turns(value) or (user(value),)
    if isinstance(value, Mapping) and _is_turn(value):
        value = one_by_one(value)
        return turns_of(value, where) if isinstance(value, list) else (message_of(value, where),)
    if isinstance(value, list) and where in DIALOGUES and len(value) > 1 and all(isinstance(t, str) for t in value):
        return tuple(Message(role="assistant" if i % 2 else "user", content=t) for i, t in enumerate(value))
    if isinstance(value, list):
        return tuple(message_of(turn, f"{where}[{i}]") for i, turn in enumerate(value))
    raise RowFault(f"'{where}' must be text, found {type_of(value)}")


# Columns whose lists of texts are turns in turn; under another name they may as well be several prompts or answers.
DIALOGUES = ("messages", "conversations", "conversation", "dialogue", "dialog", "data", "chosen", "rejected")


def is_one_text(text: str) -> bool:
    """Whether a text is read as it stands, and not as the conversation that it holds."""
    return not json_turns(text) and not transcript_turns(text)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def message_of(turn: object, where: str) -> Message:
    """A turn in any of the known spellings; raise RowFault, which says ``where``."""
    if not isinstance(turn, Mapping):
        raise RowFault(f"{where}: expected an object with 'role' and 'content', found {type_of(turn)}")
    speaker = first_of(turn, SPEAKER)
    name = speaker.strip().casefold() if isinstance(speaker, str) else ""
    if name not in ROLES:
        tool = ": turns of tools are not read" if name in TOOLS else ""
        raise RowFault(f"{where}: role must be system, user or assistant, found {printable(repr(speaker))[:40]}{tool}")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise RowFault(f"{where}: the assistant calls a tool: turns of tools are not read")
    return Message(role=ROLES[name], content=_content(first_of(turn, CONTENT), where))


def first_of(row: Mapping[str, object], names: Sequence[str]) -> object:
    """The first value that is there; None if none is."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _content(value: object, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        return "\n".join(_part(part, where) for part in value)
    raise RowFault(f"{where}: content must be text, found {type_of(value)}")


def _part(part: Mapping[str, object], where: str) -> str:
    kind, text = part.get("type"), first_of(part, ("text", "value"))
    if isinstance(text, str) and kind in (None, "text", "input_text", "output_text"):
        return text
    raise RowFault(f"{where}: content has a part of type {printable(repr(kind))[:40]}: only text is read")


def one_by_one(value: object) -> object:
    """A list of objects that is kept as an object of lists (a ``Sequence`` of the datasets library); else the value."""
    if not isinstance(value, Mapping) or not all(isinstance(column, list) for column in value.values()):
        return value
    if len({len(column) for column in value.values()}) != 1:
        return value
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _is_turn(value: Mapping[str, object]) -> bool:
    return first_of(value, SPEAKER) is not None and first_of(value, CONTENT) is not None


def json_turns(text: str) -> list[object] | None:
    """The list of messages that a text holds as JSON, or as Python writes it (a data frame's CSV); None if it does not.

    A text that only mentions JSON is a text: of a list every item must be a message.
    """
    value = listed(text) if text.lstrip().startswith("[{") else None
    return value if value and all(isinstance(t, dict) and t.keys() & set(SPEAKER) for t in value) else None


def listed(text: str) -> list[object] | None:
    """The list that a text holds as JSON or as Python writes it; None if it holds none."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value if isinstance(value, list) else None
    return None


def transcript_turns(text: str) -> Turns | None:
    """The turns of 'Human: ... Assistant: ...' (hh-rlhf), stripped; None if it is not one.

    The empty turn in which the assistant is to answer is left out.
    """
    lead, *parts = _TURN.split(text) if "Human:" in text else [text]
    if lead.strip() or not parts:
        return None
    turns = [Message(role=_SPEAKERS[who], content=said.strip())
             for who, said in zip(parts[::2], parts[1::2], strict=True)]
    if len(turns) == 1 and not text.startswith("\n\n"):
        return None  # a text that begins with a speaker's name
    return tuple(turns[:-1] if turns[-1] == Message(role="assistant", content="") else turns)


def asked(turns: Turns) -> Turns:
    """The turns up to the last one that is not by the assistant: what is to be answered."""
    end = len(turns)
    while end and turns[end - 1]["role"] == "assistant":
        end -= 1
    return turns[:end]
