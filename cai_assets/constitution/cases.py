"""The tests of a constitution: ``<name>.tests.yaml`` beside ``<name>.yaml``.

Each case is a prompt, the principle that should act on it, and what a good answer must and must not be. Guarantees: a
file has exactly one reading or is refused with every problem at its line and column, like a constitution
(``reader.py``); matching a pattern takes time linear in the length of the text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field, model_validator

from cai_assets.constitution.file_text import FileError, read_bytes
from cai_assets.constitution.files import tests_file
from cai_assets.constitution.model import Constitution, NonEmptyText, PrincipleId, Slug, Strict
from cai_assets.constitution.pattern import Pattern, count_of
from cai_assets.constitution.reader import Form, Reader, short
from cai_assets.constitution.strict import parse_form
from cai_assets.store.canonical import tagged_hash

ConditionKind = Literal["refuse", "contain", "match", "max_words", "judge", "stay_on_topic"]


class CasesError(FileError):
    """Tests that cannot be used. ``problems``: all that were found, in file order."""


class Condition(NamedTuple):
    """One condition on an answer: ``wanted`` says whether it must hold or must not."""

    kind: ConditionKind
    value: Any
    wanted: bool

    def __str__(self) -> str:
        must = "must" if self.wanted else "must not"
        return f"{must} {_said(self.kind, self.value)}"


class MustNot(Strict):
    """One condition that a good answer must not meet."""

    refuse: bool | None = None
    contain: tuple[NonEmptyText, ...] | None = Field(default=None, min_length=1, max_length=100, strict=False)
    match: Pattern | None = None
    judge: NonEmptyText | None = None

    @model_validator(mode="after")
    def _is_one(self) -> MustNot:
        if len(self.model_fields_set) != 1:
            raise ValueError("each item is one condition: start another one with '- '")
        return self

    def condition(self, *, wanted: bool) -> Condition:
        """The one that is set; to refuse 'false' is not to refuse."""
        (kind,) = self.model_fields_set
        value = getattr(self, kind)
        if value is False:
            return Condition(kind, True, not wanted)  # type: ignore[arg-type]
        return Condition(kind, value, wanted)  # type: ignore[arg-type]


class Must(MustNot):
    """One condition that a good answer must meet."""

    max_words: int | None = None
    stay_on_topic: Literal[True] | None = None


class Turn(Strict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: NonEmptyText


class Case(Strict):
    """One test. ``response``: a first answer to be criticized, in place of the generator's own.

    ``good`` and ``bad``: two answers of which the first must be preferred by the principle.
    """

    id: Slug
    principle: PrincipleId
    prompt: NonEmptyText | None = None
    messages: tuple[Turn, ...] | None = Field(default=None, min_length=1, max_length=100, strict=False)
    response: NonEmptyText | None = None
    must: tuple[Must, ...] = Field(default=(), max_length=100, strict=False)
    must_not: tuple[MustNot, ...] = Field(default=(), max_length=100, strict=False)
    good: NonEmptyText | None = None
    bad: NonEmptyText | None = None

    @model_validator(mode="after")
    def _can_be_run(self) -> Case:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs 'prompt', or 'messages' for a conversation, and not both")
        if self.messages and self.messages[-1].role != "user":
            raise ValueError("'messages' must end with the user's turn, which is answered")
        if (self.good is None) != (self.bad is None):
            raise ValueError("'good' and 'bad' belong together: give both or neither")
        if self.good is not None and self.good == self.bad:
            raise ValueError("'good' and 'bad' are the same text: neither can be preferred")
        if not (self.must or self.must_not or self.good):
            raise ValueError("tests nothing: give it 'must' or 'must_not', or 'good' and 'bad'")
        if self.response and not (self.must or self.must_not):
            raise ValueError("has a 'response' to be revised, but no 'must' or 'must_not' for the revision")
        return self

    @property
    def conversation(self) -> tuple[Turn, ...]:
        return self.messages or (Turn(role="user", content=str(self.prompt)),)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions, in file order."""
        return (*(m.condition(wanted=True) for m in self.must), *(m.condition(wanted=False) for m in self.must_not))


class Cases(Strict):
    """The tests of one constitution."""

    cases: tuple[Case, ...] = Field(min_length=1, max_length=1000, strict=False)

    @property
    def digest(self) -> str:
        """``c1tests:<32 hex>`` over what is tested, ignoring comments and layout."""
        return tagged_hash("c1tests", self.model_dump(mode="json"))

    def untested(self, constitution: Constitution) -> list[str]:
        """Ids of principles that no case names, in the order of the constitution."""
        named = {case.principle for case in self.cases}
        return [p.id for p in constitution.principles if p.id not in named]

    def of(self, constitution: Constitution) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """The cases whose principle the constitution has, and the others."""
        ids = {p.id for p in constitution.principles}
        return (tuple(c for c in self.cases if c.principle in ids),
                tuple(c for c in self.cases if c.principle not in ids))


def cases_path(folder: Path, name: str) -> Path:
    """Path of the tests of the constitution of that name, if it has any."""
    return tests_file(folder, name)


def load_cases(path: Path, constitution: Constitution | None = None) -> Cases:
    """Read a file of tests. With a constitution, an unknown principle is a problem. Raise CasesError."""
    return parse_cases(read_bytes(path, CasesError), constitution, where=str(path))


def parse_cases(text: bytes | str, constitution: Constitution | None = None, *, where: str = "<text>") -> Cases:
    """Read tests from text. ``where`` is what problems call the file. Raise CasesError."""
    def check(cases: Cases, reader: Reader) -> None:
        if constitution is not None:
            _report_unknown_principles(cases, constitution, reader)

    return parse_form(text, FORM, Cases, where=where, error=CasesError, given={}, check=check)


def _report_unknown_principles(cases: Cases, constitution: Constitution, reader: Reader) -> None:
    ids = [p.id for p in constitution.principles]
    for i, case in enumerate(cases.cases):
        if case.principle not in ids:
            near = difflib.get_close_matches(case.principle, ids, n=1)
            advice = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(_first(ids))}"
            reader.report(("cases", i, "principle"),
                          f"{constitution.name} has no principle {short(case.principle)}: {advice}")


def _first(ids: Iterable[str], most: int = 20) -> Iterator[str]:
    for i, name in enumerate(ids):
        yield name if i < most else "..."
        if i == most:
            return


def _said(kind: ConditionKind, value: Any) -> str:
    if kind == "contain":
        return "contain " + ", ".join(f"'{text}'" for text in value)
    if kind == "match":
        return f"match /{value}/"
    if kind == "max_words":
        return f"have at most {value} words"
    if kind == "judge":
        return f"get a Yes to '{value}'"
    return {"refuse": "refuse", "stay_on_topic": "stay on topic"}[kind]


def _true_or_false(event: yaml.ScalarEvent) -> tuple[bool, str]:
    plain = not event.style and event.value in {"true", "false"}
    return event.value == "true", "" if plain else f"'refuse' must be true or false, not {short(event.value)}"


def _true(event: yaml.ScalarEvent) -> tuple[bool, str]:
    plain = not event.style and event.value == "true"
    fault = f"'stay_on_topic' can only be true, not {short(event.value)}: leave the condition out otherwise"
    return True, "" if plain else fault


FORM = Form(
    noun="test file", needs="'cases'", unique="cases",
    typed={"refuse": _true_or_false, "stay_on_topic": _true, "max_words": count_of("max_words")},
    models={(): Cases, ("cases",): Case, ("cases", "must"): Must, ("cases", "must_not"): MustNot,
            ("cases", "messages"): Turn},
)
