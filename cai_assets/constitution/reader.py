"""Reads files that people write, strictly: constitutions, and the tests of constitutions.

Guarantees: a file has exactly one reading or is refused, with every problem at its line and column. The
format is a small subset of YAML: one document, no anchors, aliases, merge keys or tags, no repeated keys, and
no value that YAML would turn from a text into something else. The tree is built from parse events, so aliases
are never expanded and deep nesting costs nothing. CRLF and a byte order mark do not change what is read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel

from cai_assets.constitution.file_text import Mark, Problem, Stop
from cai_assets.constitution.model import slug_of

MAX_NODES = 50_000
MAX_DEPTH = 8

Loc = tuple[str | int, ...]
Scalar = Callable[[yaml.ScalarEvent], tuple[Any, str]]  # the value, and what is wrong with it or ''
NOT_A_TEXT = {
    "null": "nothing",
    "bool": "true or false",
    "int": "a whole number (010 becomes 8, 12:30:00 becomes 45000)",
    "float": "a number (1.10 becomes 1.1)",
    "timestamp": "a date",
}
MARKER = re.compile(
    r"<\|[^<>\n]{0,64}?\|>|<｜[^<>\n]{0,64}?｜>|\[/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]"
    r"|</?s>|<</?SYS>>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>", re.IGNORECASE)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NOT_IN_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # bidi controls too
RESOLVER = yaml.resolver.Resolver()


@dataclass(frozen=True)
class Form:
    """What one kind of file is. ``models``: by the names on the way down, a list index is left out; () is the whole.

    ``typed``: keys whose values are not texts, and how those are read. ``quoted``: keys at the top whose texts must be
    in quotes. ``given``: fields of the whole that are not in the file. ``unique``: the list whose items' ids differ.
    """

    noun: str
    needs: str
    models: Mapping[Loc, type[BaseModel]]
    unique: str
    typed: Mapping[str, Scalar] = field(default_factory=dict)
    quoted: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()

    @property
    def whole(self) -> type[BaseModel]:
        return self.models[()]


@dataclass
class _Frame:
    """A list or mapping that is still open; ``key`` waits for its value."""

    loc: Loc
    value: Any
    key: str | None = None

    @property
    def wants_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None

    def next_loc(self) -> Loc:
        return (*self.loc, len(self.value) if isinstance(self.value, list) else self.key or "")

    def put(self, value: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value[self.key], self.key = value, None


class Reader:
    """Builds plain data from parse events and remembers the position of each key and value."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.problems: list[tuple[Loc, Mark, str]] = []
        self.marks: dict[Loc, Mark] = {}
        self.keys: dict[Loc, Mark] = {}
        self.nodes = 0
        self.stack = [_Frame((), [])]  # the bottom list holds the documents

    def read(self, text: str) -> Any:
        """The one document as dicts, lists, texts and what ``form.typed`` makes of other values."""
        documents = self.stack[0].value
        try:
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                self._take(event)
        except yaml.MarkedYAMLError as e:
            raise Stop(_mark(e.problem_mark), _syntax(e, text)) from None
        if not documents:
            raise Stop(Mark(1, 1), f"the file is empty: it needs {self.form.needs}")
        if len(documents) > 1:
            second = f"a second document ('---'): one file, one {self.form.noun}"
            self.problems.append(((1,), self.marks[(1,)], second))
        return documents[0]

    def report(self, loc: Loc, message: str, *, at_key: bool = False) -> None:
        """Add a problem at a place in the document, or at the nearest place around it that the file has."""
        here: Loc = (0, *loc)
        tables = (self.keys, self.marks) if at_key else (self.marks, self.keys)
        while not any(here in t for t in tables):
            here = here[:-1]
        mark = next(t[here] for t in tables if here in t)
        self.problems.append(((0, *loc), mark, message))

    def forget_values(self, unknown: set[Loc]) -> None:
        """Drop problems of values whose keys do not exist: the key is the problem."""
        self.problems = [p for p in self.problems if p[0][1:] not in unknown or p[1] != self.marks[p[0]]]

    def known(self) -> set[Loc]:
        """Places that already have a problem reported."""
        return {loc[1:] for loc, _, _ in self.problems}

    def found(self, where: str) -> list[Problem]:
        """All problems so far, in a file of that name."""
        return [Problem(where, *mark, message) for _, mark, message in self.problems]

    def _take(self, event: yaml.Event) -> None:
        frame = self.stack[-1]
        if isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise Stop(_mark(event.start_mark), f"more than {MAX_NODES} values: a {self.form.noun} is much smaller")
            (self._key if frame.wants_key else self._value)(frame, event)

    def _key(self, frame: _Frame, event: yaml.NodeEvent) -> None:
        mark = _mark(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):
            raise Stop(mark, "a key must be a plain word")
        loc = (*frame.loc, event.value)
        self._refuse_features(loc, event)
        if loc in self.keys:
            message = f"{short(event.value)} is given twice, first on line {self.keys[loc].line}: keep one"
            self.problems.append((loc, mark, message))
        self.keys.setdefault(loc, mark)
        frame.key = event.value

    def _value(self, frame: _Frame, event: yaml.NodeEvent) -> None:
        loc = frame.next_loc()
        repeated = loc in self.marks  # its key was reported already
        mark = self.marks.setdefault(loc, _mark(event.start_mark))
        self._refuse_features(loc, event)
        if isinstance(event, yaml.CollectionStartEvent):
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.stack.append(_Frame(loc, value))
            if len(self.stack) > MAX_DEPTH:
                raise Stop(mark, f"nested more than {MAX_DEPTH - 2} deep: a {self.form.noun} is flatter")
        else:
            value = self._scalar(loc, event) if isinstance(event, yaml.ScalarEvent) and not repeated else ""
        frame.put(value)

    def _refuse_features(self, loc: Loc, event: yaml.NodeEvent) -> None:
        mark = _mark(event.start_mark)
        if event.anchor is not None:
            self.problems.append((loc, mark, "anchors ('&') and aliases ('*') are not allowed: write the value out"))
        if tag := getattr(event, "tag", None):
            name = short("!" + tag.removeprefix("tag:yaml.org,2002:").removeprefix("!"))
            self.problems.append((loc, mark, f"tags such as {name} are not allowed: remove it"))

    def _scalar(self, loc: Loc, event: yaml.ScalarEvent) -> Any:
        read = self.form.typed.get(label(loc))
        value, fault = read(event) if read else (event.value, self._not_a_text(loc, event))
        if fault:
            self.problems.append((loc, self.marks[loc], fault))
        return value

    def _not_a_text(self, loc: Loc, event: yaml.ScalarEvent) -> str:
        name, value = label(loc), event.value
        quoted = len(loc) == 2 and name in self.form.quoted
        kind = "" if event.style or len(loc) == 1 else _yaml_type(value)  # a one-value document is refused as a whole
        if kind == "null":
            return f"'{name}' has no value: write one or remove the key"
        if kind in NOT_A_TEXT:
            example = _quoted(value, slug=quoted)
            return f"YAML reads {short(value)} as {NOT_A_TEXT[kind]}: put it in quotes, such as {example}"
        if quoted and not event.style:
            example = _quoted(value, slug=True)
            return f"'{name}' must be in quotes, such as {example}: 1.10 or NO would lose its meaning"
        if marker := MARKER.search(value):
            return f"{short(marker[0])} is a control marker of chat models and may not be in a text: remove it"
        return unsafe(value, as_name=name == "name") or ""


def report_repeated_ids(document: Mapping[str, Any], reader: Reader) -> None:
    """Report each id of ``form.unique`` that an earlier item has."""
    first: dict[str, int] = {}
    name = reader.form.unique
    for i, given in enumerate(_ids(document.get(name))):
        # Case is folded because two ids that differ by case only would be one file on some disks.
        folded = given.casefold() if isinstance(given, str) else None
        if folded in first:
            line = reader.marks[(0, name, first[folded], "id")].line
            reader.report((name, i, "id"), f"{short(given)} is the id on line {line} already: choose another")
        elif folded:
            first[folded] = i


def _ids(items: Any) -> Iterable[Any]:
    return (x.get("id") if isinstance(x, dict) else None for x in (items if isinstance(items, list) else []))


def label(loc: Loc) -> str:
    """What a place in the document is called."""
    return f"item {loc[-1] + 1}" if isinstance(loc[-1], int) else loc[-1]


def unsafe(value: str, *, as_name: bool) -> str | None:
    """What is forbidden in a text and found in it."""
    if bad := (NOT_IN_A_NAME if as_name else CONTROL).search(value):
        return f"it holds the invisible character U+{ord(bad[0]):04X}: remove it"
    if as_name and not unicodedata.is_normalized("NFC", value):
        return "it is not in Unicode normal form NFC: type its accented letters again"
    return None


def suggest(value: str) -> str:
    """A slug like the text, as the end of a message."""
    return f"; for example \"{slug}\"" if (slug := slug_of(value)) else ""


def short(value: object) -> str:
    """A value in quotes and in ASCII, cut if it is long."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:50] + "...'"


def _yaml_type(plain: str) -> str:
    tag: str = RESOLVER.resolve(yaml.ScalarNode, plain, (True, False))  # type: ignore[no-untyped-call]
    return tag.rpartition(":")[2]


def _quoted(value: str, *, slug: bool) -> str:
    return (suggest(value).removeprefix("; for example ") if slug else "") or f'"{value[:40]}"'


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    lines = text.splitlines()
    mark = _mark(error.problem_mark)
    before = lines[mark.line - 1][: mark.column] if mark.line <= len(lines) else ""
    quote = "a text that holds ':' or '#' needs quotes or a '|' block"
    advice = "indent with spaces, not tabs" if "\t" in before else quote
    return f"not valid YAML: {error.problem}; {advice}"


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
