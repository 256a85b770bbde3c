"""How a chat template has its model think before it answers, found by rendering it with and without its variables.

A template gives itself away in three ways: the beginning of an answer opens a thought, or holds an empty one; a
variable changes that; or a message of the assistant has a place for a thought beside its content. From these follow how
the model is told not to think, how it is told to, and what stands around a thought.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from cai_assets.engines import chat_family
from cai_assets.engines.chat_family import mark, shown
from cai_assets.engines.chat_template import ChatTemplate, Turn

Start = Literal["open", "closed", "silent"]
Variables = Mapping[str, Any]
VALUES = (False, True, "none", "off", 0)
OPENS = re.compile(r"(<[A-Za-z][\w:-]*>|\[[A-Z][A-Z_-]*\]|◁\w+▷)\s*$")
CLOSES = re.compile(r"(</[A-Za-z][\w:-]*>|\[/[A-Z][A-Z_-]*\]|◁/\w+▷)\s*$")
BY_NAME = re.compile("think|reason|deliberat", re.IGNORECASE)  # of a switch that shows in a template's preface alone
CANNOT = ("the chat template has the model think before each answer, and nothing switches it off: set "
          "models.*.thinking=keep (thoughts are kept apart from answers) or budget, or take a model that can answer "
          "without thinking")


@dataclass(frozen=True)
class Switch:
    """What tells a model whether to think: variables of the template, and what an answer then begins with."""

    variables: Variables = field(default_factory=dict)
    lead: str = ""


@dataclass(frozen=True)
class Thinking:
    """``off``: None if nothing switches thinking off. ``begin``, ``end``: around a thought, as the template has it."""

    off: Switch | None
    keep: Switch
    begin: str
    end: str

    def switch(self, mode: str) -> Switch:
        """Where nothing switches thinking off, the thought that a prompt begins is ended in it: to train on answers."""
        return self.keep if mode not in {"", "off"} else self.off or Switch(lead=self.ending)

    @property
    def ending(self) -> str:
        """``end``, on a line of its own if it is a tag in the text, as models write it."""
        tag = self.end == self.end.strip() and CLOSES.fullmatch(self.end)
        return f"\n{self.end}\n\n" if tag else self.end


def read(template: ChatTemplate) -> Thinking | None:
    """How it thinks; None if it does not."""
    return _read(template.text, tuple(template.tokens.items()))


@lru_cache(maxsize=64)
def _read(text: str, tokens: tuple[tuple[str, Any], ...]) -> Thinking | None:
    return _Probe(ChatTemplate(text, dict(tokens))).thinking()


class _Probe:
    """Renderings of one template. ``starts``: what follows the user's turn, by the variables that are set."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template, self.family = template, chat_family.read(template)
        self.default = self._start({})
        self.starts = [(variables, start) for name in template.variables for value in VALUES
                       if (start := self._start(variables := {name: value})) not in {"", self.default}]
        self.begin, self.end = self._around()

    def thinking(self) -> Thinking | None:
        if not self.end:
            return None
        begins = {state: [v for v, start in self.starts if self._state(start) == state]
                  for state in ("open", "closed", "silent")}
        now = self._state(self.default)
        toggle = self._toggle()
        lead = self._lead()
        if now == "closed":
            off: Switch | None = Switch()
        elif begins["closed"]:
            off = Switch(begins["closed"][0])
        elif now == "open":
            off = Switch(begins["silent"][0]) if begins["silent"] else None
        elif toggle:
            off = Switch({} if self._preface({}) == self._preface({toggle: False}) else {toggle: False})
        else:
            off = Switch(lead=lead)  # and where it has none, a thought that comes all the same is left out
        if now == "closed":
            keep = Switch(next(iter([*begins["open"], *begins["silent"]]), {}))
        else:
            keep = Switch({toggle: True} if toggle and self._preface({}) != self._preface({toggle: True}) else {})
        return Thinking(off, keep, self.begin, self.end)

    def _start(self, variables: Variables) -> str:
        return self._rendered([_user()], prompt=True, **variables).partition(mark(0))[2]

    def _preface(self, variables: Variables) -> str:
        return self._rendered([_user()], prompt=True, **variables)

    def _rendered(self, messages: list[Turn], *, prompt: bool, **variables: Any) -> str:
        taken = [{**m, "content": self.family.content(m["content"])} if isinstance(m["content"], str) else m
                 for m in messages]
        return shown(self.template, taken, prompt=prompt, **variables)

    def _state(self, start: str) -> Start:
        begin, end = self.begin.strip(), self.end.strip()
        if begin and start.rstrip().endswith(begin):
            return "open"
        return "closed" if start.rstrip().endswith(end) else "silent"

    def _around(self) -> tuple[str, str]:
        """What stands before and after a thought; two empty texts if there is no place for one."""
        return next(self._beside_contents(), None) or next(self._at_the_start(), ("", ""))

    def _beside_contents(self) -> Iterator[tuple[str, str]]:
        """Where a message of the assistant has a thought of its own: in a field, or in a part of its content."""
        names = sorted(set(self.template.fields) - {"role", "content", "tool_calls", "name"},
                       key=lambda name: (not BY_NAME.search(name), name))
        answers = [{"content": self.family.content(mark(1)), name: mark(2)} for name in names]
        answers += [{"content": content} for content in (
            {"blocks": [{"type": "thoughts", "text": mark(2)}, {"type": "response", "text": mark(1)}]},
            [{"type": "thinking", "thinking": mark(2)}, {"type": "text", "text": mark(1)}],
            [{"type": "reasoning", "text": mark(2)}, {"type": "text", "text": mark(1)}])]
        for answer in answers:
            text = self._rendered([_user(), {"role": "assistant", **answer}], prompt=False).partition(mark(0))[2]
            before, thought, rest = text.partition(mark(2))
            between, content, _ = rest.partition(mark(1))
            begin = self._without_header(before)
            if thought and content and between.strip() and re.search(r"[<\[◁]", begin):
                yield begin, between

    def _without_header(self, text: str) -> str:
        """What is written at the beginning of an answer, without what any answer begins with."""
        header = OPENS.sub("", self.default) if text.startswith(OPENS.sub("", self.default)) else ""
        return text.removeprefix(header or self.default)

    def _at_the_start(self) -> Iterator[tuple[str, str]]:
        """Where the beginning of an answer opens or closes a thought, and contents hold theirs as text."""
        for start in (self.default, *(start for _, start in self.starts)):
            if (closed := CLOSES.search(start)) and self._is_new(begin := closed[1].replace("/", "", 1)):
                yield begin, closed[1]
            opened = OPENS.search(start)
            if opened and not self._is_header(start, end := opened[1][0] + "/" + opened[1][1:]):
                yield opened[1], end

    def _is_new(self, begin: str) -> bool:
        """Whether a tag that is closed after the user's turn was not opened before it, as [INST] is."""
        return begin not in self._rendered([_user()], prompt=True).partition(mark(0))[0]

    def _is_header(self, start: str, end: str) -> bool:
        """Whether any answer begins so: the role's own tag."""
        answer = self._rendered([_user(), {"role": "assistant", "content": mark(1)}], prompt=False)
        before = answer.partition(mark(0))[2].partition(mark(1))[0]
        return before.startswith(start) and end not in before

    def _lead(self) -> str:
        """What the template writes between the beginning of an answer and its text: a channel, or an empty thought."""
        answer = self._rendered([_user(), {"role": "assistant", "content": mark(1)}], prompt=False)
        before = answer.partition(mark(0))[2].partition(mark(1))[0]
        lead = before.removeprefix(self.default) if before.startswith(self.default) else ""
        return lead if lead.strip() else ""

    def _toggle(self) -> str:
        """A variable that says in words, before the first turn, whether to think; it is on or off by itself."""
        for name in filter(BY_NAME.search, self.template.variables):
            on, off, now = (self._preface(v) for v in ({name: True}, {name: False}, {}))
            if on and off and on != off and now in {on, off}:
                return name
        return ""


def _user() -> Turn:
    return {"role": "user", "content": mark(0)}
