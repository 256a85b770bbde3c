"""Check one raw row and turn it into a prompt, or say why it cannot be one.

Guarantee: a row that passes is valid UTF-8 text that a chat template can render (an optional system turn, then
user and assistant in turn, the user last), kept character for character: nothing is stripped, cut or evaluated.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cai_assets.constitution.model import SLUG
from cai_assets.engines.protocol import Message
from cai_assets.lineage.origins import Origin, read_origin
from cai_assets.reading.faults import RowFault, printable
from cai_assets.reading.files import Raw
from cai_assets.reading.names import Meaning, kind_of_name, split_of_name
from cai_assets.reading.rows import PROMPT_COLUMNS, fields_of, prompt_of
from cai_assets.settings.columns import NO_MAP, Columns
from cai_assets.store.canonical import tagged_hash

COLUMNS = PROMPT_COLUMNS | {"id", "kind", "category", "split", "origin", "note"}
EVALUATION_SHARE = 0.2
EXCERPT = 200
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
SURROGATE = re.compile(r"[\ud800-\udfff]")
CHAT_MARKERS = re.compile(r"<\|[^|\s]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|</?(?:start|end)_of_turn>"
                          r"|^### (?:Assistant|Human|User|System|Instruction|Response)\b", re.MULTILINE)
# Braille blank and Hangul fillers: letters and symbols by category, yet nothing to see.
BLANKS = "\u2800\u115f\u1160\u3164\uffa0"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A checked row. ``text`` is the normalized form that near duplicates are found by; ``flags`` are remarks.

    ``origin``: what red-teaming found it by. Only a training prompt has one.
    """

    prompt_id: str
    kind: str
    category: str
    split: str
    messages: tuple[Message, ...]
    source: str
    line: int
    text: str
    flags: tuple[str, ...]
    origin: Origin | None = None


def check_row(raw: Raw, *, max_chars: int, kind: str, columns: Columns = NO_MAP) -> Prompt:
    """Return the prompt in ``raw``; raise RowFault, with the reason, if there is none.

    ``kind`` is what a row is when neither it nor its file name says; ``columns``, where its values are.
    """
    row = fields_of(raw.value, columns, "'prompt' or 'messages'")
    messages = prompt_of(row)
    _check_turns(messages, max_chars)
    text = text_of(messages)
    labels = {"kind": _label(row, "kind", kind_of_name), "split": _label(row, "split", split_of_name)}
    flags = [f"unknown-{key}" for key, value in labels.items() if value is None and row.get(key) is not None]
    if any(CHAT_MARKERS.search(m["content"]) for m in messages):
        flags.append("chat-markers")
    split = labels["split"] or raw.split or split_of(text)
    origin = read_origin(row.get("origin")) if split == "train" else None
    if origin is None and row.get("origin") is not None:
        flags.append("unknown-origin")
    return Prompt(
        prompt_id=_id(row.get("id"), messages),
        kind=labels["kind"] or raw.kind or kind,
        category=_category(row.get("category")),
        split=split, messages=messages, source=raw.source, line=raw.line, text=text, flags=tuple(flags), origin=origin,
    )


def excerpt(raw: Raw) -> str:
    """The start of a row, at most 200 characters, safe to print."""
    value = raw.value.excerpt if isinstance(raw.value, RowFault) else raw.value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return printable(text[:EXCERPT])[:EXCERPT]


def text_of(messages: Iterable[Mapping[str, Any]]) -> str:
    """What identifies a conversation: its normalized turns, without a system turn."""
    return normalize("\n".join(m["content"] for m in messages if m["role"] != "system"))


def normalize(text: str) -> str:
    """NFKC, case folded, words of letters, marks and digits with single spaces; never empty for a visible text."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_WORDS).split()) or " ".join(folded.split())


def split_of(text: str) -> str:
    """The split of a row that names none: one in five normalized texts is for evaluation, always the same ones."""
    draw = int(tagged_hash("split", text).rpartition(":")[2][:8], 16) / 16**8
    return "evaluation" if draw < EVALUATION_SHARE else "train"


class _Words(dict[int, str]):
    """Letters, marks and digits stay, invisible format characters go, all else parts words."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        self[code] = chr(code) if category[0] in "LMN" else "" if category == "Cf" else " "
        return self[code]


_WORDS = _Words()


def _check_turns(messages: tuple[Message, ...], max_chars: int) -> None:
    for message in messages:
        check_text(message["content"])
    length = sum(len(m["content"]) for m in messages)
    if length > max_chars:
        raise RowFault(f"too long: {length:,} characters, the limit is {max_chars:,} (prompts.max_chars)")
    roles = [m["role"] for m in messages]
    if not roles or roles[-1] != "user":
        raise RowFault("the last turn is not by the user")
    turns = roles[roles[0] == "system":]
    if turns != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        raise RowFault("turns must alternate: user, assistant, ..., user, with at most one system turn before them")


def check_text(text: str) -> None:
    """Raise RowFault for a text that is empty, not valid Unicode, or holds control characters."""
    if match := SURROGATE.search(text):
        raise RowFault(f"not valid Unicode: lone surrogate U+{ord(match[0]):04X} at character {match.start() + 1}")
    if match := CONTROL.search(text):
        raise RowFault(f"control character U+{ord(match[0]):04X} at character {match.start() + 1}")
    if not any(map(_visible, text)):
        raise RowFault("empty: no visible character")


def _visible(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] not in "ZM" and category not in ("Cc", "Cf") and char not in BLANKS


def _label(row: Mapping[str, object], key: str, meaning: Meaning) -> str | None:
    value = row.get(key)
    return meaning(value) if isinstance(value, str) else None


def _category(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        return "uncategorised"
    return value.strip()[:100]


def _id(value: object, messages: tuple[Message, ...]) -> str:
    # A bare number is a position in some file, not an identity: two files would clash in every row.
    if isinstance(value, str) and re.fullmatch(SLUG, value) and not value.isdecimal() and "\n" not in value:
        return value
    return "p-" + hash_of(messages)


def hash_of(messages: tuple[Message, ...]) -> str:
    """16 hexadecimal digits that name a conversation."""
    return tagged_hash("prompt", messages).rpartition(":")[2][:16]
