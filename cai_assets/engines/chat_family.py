"""What a chat template takes and does, found by rendering it, never by a model's name; and messages as it takes them.

Nothing is lost where a template has no place for it: a system text that is refused or dropped is joined to the first
turn of the user, turns that must alternate are joined, and a last turn of the assistant that is refused or dropped is
written after the beginning of an answer. What is adapted is said of every call (``Result.adapted``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from cai_assets.engines.chat_template import ChatTemplate, Refused, Turn
from cai_assets.engines.protocol import Message

Place = Literal["taken", "refused", "dropped"]
PARAGRAPH = "\n\n"
JOINED = "the system text is joined to the first turn of the user, because the chat template {} a system turn"
MERGED = "neighboring turns of one role are joined, because the chat template refuses them"
WRITTEN = ("the last turn of the assistant is written after the beginning of an answer, because the chat template {} "
           "it there")
DOES = {"refused": "refuses", "dropped": "drops"}


@dataclass(frozen=True)
class Family:
    """``system``: a system turn; ``last``: a turn of the assistant at the end; ``repeats``: two turns of one role in a
    row; ``parts``: contents must be lists of parts; ``bos``: the template writes the beginning of text itself."""

    system: Place = "taken"
    last: Place = "taken"
    repeats: Place = "taken"
    parts: bool = False
    bos: bool = False

    def taken(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as the template takes them, with every text in its place."""
        moved = list(messages) if self.system == "taken" else list(_without_system(messages))
        return moved if self.repeats == "taken" else list(_alternating(moved))

    def adapted(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """What is done to these messages, and why."""
        joined = self.system != "taken" and any(m["role"] == "system" for m in messages)
        moved = list(_without_system(messages)) if joined else messages
        merged = self.repeats != "taken" and any(a["role"] == b["role"] for a, b in pairwise(moved))
        written = self.last != "taken" and messages[-1]["role"] == "assistant"
        return (*([JOINED.format(DOES[self.system])] if joined else []), *([MERGED] if merged else []),
                *([WRITTEN.format(DOES[self.last])] if written else []))

    def content(self, text: str) -> Any:
        """A text as the template takes contents."""
        return [{"type": "text", "text": text}] if self.parts else text


def read(template: ChatTemplate) -> Family:
    """What there is to know of a template."""
    return _read(template.text, tuple(template.tokens.items()))


@lru_cache(maxsize=64)
def _read(text: str, tokens: tuple[tuple[str, Any], ...]) -> Family:
    template = ChatTemplate(text, dict(tokens))
    parts = _place(template, _user(0)) != "taken" and _place(template, *_in_parts(_user(0))) == "taken"
    probe = _in_parts if parts else _as_they_are
    bos = str(template.tokens.get("bos_token") or "")
    return Family(
        system=_place(template, *probe(_turn("system", 0), _user(1))), parts=parts,
        last=_place(template, *probe(_user(0), _turn("assistant", 1)), prompt=False),
        repeats=_place(template, *probe(_user(0), _user(1))),
        bos=bool(bos) and shown(template, probe(_user(0)), prompt=True).lstrip().startswith(bos))


def mark(index: int) -> str:
    """What stands for a content while its template is rendered: characters of private use."""
    return f"\ue000{index}\ue001"


def shown(template: ChatTemplate, messages: Sequence[Turn], *, prompt: bool, **variables: Any) -> str:
    """The rendered text; '' if it is refused."""
    try:
        return template.render(messages, prompt=prompt, **variables)
    except Refused:
        return ""


def _place(template: ChatTemplate, *messages: Turn, prompt: bool = True) -> Place:
    """What becomes of some messages, each with its number as its content."""
    try:
        text = template.render(messages, prompt=prompt)
    except Refused:
        return "refused"
    return "taken" if all(mark(i) in text for i in range(len(messages))) else "dropped"


def _turn(role: str, index: int) -> Turn:
    return {"role": role, "content": mark(index)}


def _user(index: int) -> Turn:
    return _turn("user", index)


def _as_they_are(*messages: Turn) -> tuple[Turn, ...]:
    return messages


def _in_parts(*messages: Turn) -> tuple[Turn, ...]:
    return tuple({**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages)


def _without_system(messages: Sequence[Message]) -> Iterator[Message]:
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        if waiting and message["role"] == "user":
            yield {"role": "user", "content": PARAGRAPH.join([*waiting, message["content"]])}
        elif waiting:
            yield {"role": "user", "content": PARAGRAPH.join(waiting)}
            yield message
        else:
            yield message
        waiting = []
    if waiting:
        yield {"role": "user", "content": PARAGRAPH.join(waiting)}


def _alternating(messages: Sequence[Message]) -> Iterator[Message]:
    before: Message | None = None
    for message in messages:
        if before is not None and before["role"] == message["role"]:
            before = {"role": before["role"], "content": PARAGRAPH.join([before["content"], message["content"]])}
            continue
        if before is not None:
            yield before
        before = message
    if before is not None:
        yield before
