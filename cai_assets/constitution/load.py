"""Reads a constitution file, strictly.

Guarantees: a file is read to exactly one meaning or refused, with every problem at its line and column. The
format is a small subset of YAML: one document, no anchors, aliases, merge keys or tags, no repeated keys, and
no value that YAML would turn from a text into something else. The tree is built from parse events, so aliases
are never expanded and deep nesting costs nothing. CRLF and a byte order mark do not change what is read.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.model import Constitution, FewShots, PreferenceShot, Principle, RevisionShot

MAX_BYTES = 2 * 1024 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 8
MAX_SHOWN = 20

Loc = tuple[str | int, ...]
# By the names on the way down: a list index is left out.
MODELS: dict[Loc, type[BaseModel]] = {
    (): Constitution,
    ("principles",): Principle,
    ("few_shots",): FewShots,
    ("few_shots", "revision"): RevisionShot,
    ("few_shots", "preference"): PreferenceShot,
}
NOT_A_TEXT = {
    "null": "nothing",
    "bool": "true or false",
    "int": "a whole number (010 becomes 8, 12:30:00 becomes 45000)",
    "float": "a number (1.10 becomes 1.1)",
    "timestamp": "a date",
}
SAID_BETTER = {
    "tuple_type": "must be a list of '- ' items",
    "model_type": "must be 'key: value' lines",
    "string_type": "must be a text",
    "string_too_short": "is blank: write a text or remove the key",
    "string_too_long": "has more than {max_length} characters: shorten it",
    "too_short": "is empty: it needs at least one item",
    "too_long": "has more than {max_length} items: split the file",
    "float_type": "must be a number",
    "literal_error": "must be {expected}",
}
SLUG_RULE = "use a-z, 0-9 and '-' only, start with a letter or digit, at most 63 characters"
MARKER = re.compile(
    r"<\|[^<>\n]{0,64}?\|>|<｜[^<>\n]{0,64}?｜>|\[/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]"
    r"|</?s>|<</?SYS>>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>", re.IGNORECASE)
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NOT_IN_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # bidi controls too
DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
RESOLVER = yaml.resolver.Resolver()


class Mark(NamedTuple):
    line: int
    column: int


class Problem(NamedTuple):
    """One fault; prints as ``where:line:column: message``, counted from 1."""

    where: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line}:{self.column}: {self.message}"


class ConstitutionError(ValueError):
    """A constitution that cannot be used. ``problems``: all that were found, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = sorted(problems, key=lambda p: (p.line, p.column))

    def __str__(self) -> str:
        more = len(self.problems) - MAX_SHOWN
        rest = [f"... and {more} more"] if more > 0 else []
        return "\n".join([str(p) for p in self.problems[:MAX_SHOWN]] + rest)


def load_file(path: Path) -> Constitution:
    """Read a constitution file; its stem is the name. Raise ConstitutionError for whatever is wrong with it."""
    try:
        with path.open("rb") as f:
            data = f.read(MAX_BYTES + 1)
    except OSError as e:
        raise ConstitutionError([Problem(str(path), 1, 1, f"cannot be read: {e.strerror}")]) from e
    return parse(data, name=path.stem, where=str(path))


def parse(text: bytes | str, *, name: str, where: str = "<text>") -> Constitution:
    """Read a constitution from text. ``where`` is what problems call the file. Raise ConstitutionError."""
    reader = _Reader()
    try:
        document = reader.read(_decode(text))
        found = _validate(document, name, reader)
    except _Stop as stop:
        reader.problems.append(((), stop.mark, stop.message))
        found = None
    if found is None or reader.problems:
        raise ConstitutionError([Problem(where, *mark, message) for _, mark, message in reader.problems])
    return found


class _Stop(Exception):
    """Reading cannot go on."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark, self.message = mark, message


def _decode(text: bytes | str) -> str:
    if len(text) > MAX_BYTES:
        raise _Stop(Mark(1, 1), f"is larger than {MAX_BYTES} bytes: a constitution is much smaller")
    if isinstance(text, bytes):
        return _decode(_utf8(text))
    if bad := UNPRINTABLE.search(text):
        raise _Stop(_mark_after(text[: bad.start()]), f"character U+{ord(bad[0]):04X} cannot be in a text: remove it")
    return text.removeprefix("\ufeff")


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        message = f"byte 0x{data[e.start]:02X} at offset {e.start} is not UTF-8: save the file as UTF-8"
        raise _Stop(_mark_after(data[: e.start].decode("utf-8")), message) from None


def _mark_after(before: str) -> Mark:
    lines = re.split(r"\r\n|\r|\n", before.removeprefix("\ufeff"))
    return Mark(len(lines), len(lines[-1]) + 1)


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


class _Reader:
    """Builds plain data from parse events and remembers where each key and value stands."""

    def __init__(self) -> None:
        self.problems: list[tuple[Loc, Mark, str]] = []
        self.marks: dict[Loc, Mark] = {}
        self.keys: dict[Loc, Mark] = {}
        self.nodes = 0
        self.stack = [_Frame((), [])]  # the bottom list holds the documents

    def read(self, text: str) -> Any:
        """The one document as dicts, lists, texts and weights."""
        documents = self.stack[0].value
        try:
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                self._take(event)
        except yaml.MarkedYAMLError as e:
            raise _Stop(_mark(e.problem_mark), _syntax(e, text)) from None
        if not documents:
            raise _Stop(Mark(1, 1), "the file is empty: it needs 'version' and 'principles'")
        if len(documents) > 1:
            self.problems.append(((1,), self.marks[(1,)], "a second document ('---'): one file, one constitution"))
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
        """Drop what was said of values whose keys do not exist: the key is the problem."""
        self.problems = [p for p in self.problems if p[0][1:] not in unknown or p[1] != self.marks[p[0]]]

    def _take(self, event: yaml.Event) -> None:
        frame = self.stack[-1]
        if isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise _Stop(_mark(event.start_mark), f"more than {MAX_NODES} values: a constitution is much smaller")
            (self._key if frame.wants_key else self._value)(frame, event)

    def _key(self, frame: _Frame, event: yaml.NodeEvent) -> None:
        mark = _mark(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):
            raise _Stop(mark, "a key must be a plain word")
        loc = (*frame.loc, event.value)
        self._refuse_features(loc, event)
        if loc in self.keys:
            message = f"{_short(event.value)} is given twice, first on line {self.keys[loc].line}: keep one"
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
                raise _Stop(mark, f"nested more than {MAX_DEPTH - 2} deep: a constitution is flatter")
        else:
            value = self._scalar(loc, event) if isinstance(event, yaml.ScalarEvent) and not repeated else ""
        frame.put(value)

    def _refuse_features(self, loc: Loc, event: yaml.NodeEvent) -> None:
        mark = _mark(event.start_mark)
        if event.anchor is not None:
            self.problems.append((loc, mark, "anchors ('&') and aliases ('*') are not allowed: write the value out"))
        if tag := getattr(event, "tag", None):
            name = _short("!" + tag.removeprefix("tag:yaml.org,2002:").removeprefix("!"))
            self.problems.append((loc, mark, f"tags such as {name} are not allowed: remove it"))

    def _scalar(self, loc: Loc, event: yaml.ScalarEvent) -> str | float:
        name, value = _label(loc), event.value
        if name == "weight":
            return self._weight(loc, event)
        kind = "" if event.style or len(loc) == 1 else _yaml_type(value)  # a one-value document is refused as a whole
        fault = ""
        if kind == "null":
            fault = f"'{name}' has no value: write one or remove the key"
        elif kind in NOT_A_TEXT:
            fault = f"YAML reads {_short(value)} as {NOT_A_TEXT[kind]}: put it in quotes, such as {_quoted(loc, value)}"
        elif loc[1:] == ("version",) and not event.style:
            fault = f"'version' must be in quotes, such as {_quoted(loc, value)}: 1.10 or NO would lose its meaning"
        elif marker := MARKER.search(value):
            fault = f"{_short(marker[0])} is a control marker of chat models and may not be in a text: remove it"
        else:
            fault = _unsafe(value, as_name=name == "name") or ""
        if fault:
            self.problems.append((loc, self.marks[loc], fault))
        return value

    def _weight(self, loc: Loc, event: yaml.ScalarEvent) -> float:
        weight = float(event.value) if not event.style and DECIMAL.fullmatch(event.value) else math.nan
        if not 0 < weight <= 1000:
            fault = f"weight {_short(event.value)} must be a plain decimal number over 0 and up to 1000, such as 0.5"
            self.problems.append((loc, self.marks[loc], fault))
        return weight


def _validate(document: Any, name: str, reader: _Reader) -> Constitution | None:
    if not isinstance(document, dict):
        raise _Stop(reader.marks[(0,)], "must be 'key: value' lines at the top level, with 'version' and 'principles'")
    if "name" in document:
        reader.report(("name",), "remove 'name': the file's name is the constitution's name", at_key=True)
    _report_repeated_ids(document, reader)
    try:
        c = Constitution.model_validate({**document, "name": name})
        partition_key(c)
        return c
    except ValidationError as e:
        errors = e.errors(include_url=False)
        reader.forget_values({x["loc"] for x in errors if x["type"] == "extra_forbidden"})
        # Pydantic repeats faults of the parts at the whole, and what the reader said better already.
        known = {loc[1:] for loc, _, _ in reader.problems}
        for error in errors:
            loc, kind = error["loc"], error["type"]
            whole = (not loc and known) or (kind == "too_short" and error["input"])
            if not whole and (loc not in known or kind == "extra_forbidden"):
                _report(error, name, reader)
    except ValueError as e:
        reader.report(("version",), str(e))
    return None


def _report_repeated_ids(document: dict[str, Any], reader: _Reader) -> None:
    first: dict[str, int] = {}
    principles = document.get("principles")
    for i, p in enumerate(principles if isinstance(principles, list) else []):
        given = p.get("id") if isinstance(p, dict) else None
        # Case is folded because two ids that differ by case only would be one file on some disks.
        folded = given.casefold() if isinstance(given, str) else None
        if folded in first:
            line = reader.marks[(0, "principles", first[folded], "id")].line
            reader.report(("principles", i, "id"), f"{_short(given)} is the id on line {line} already: choose another")
        elif folded:
            first[folded] = i


def _report(error: ErrorDetails, name: str, reader: _Reader) -> None:
    loc, kind, value = error["loc"], error["type"], error["input"]
    key = _label(loc)
    if kind == "extra_forbidden":
        reader.report(loc, _unknown(loc), at_key=True)
    elif kind == "missing":
        reader.report(loc, f"'{key}' is missing: add it")
    elif kind == "string_pattern_mismatch":
        what = "the file's name" if loc == ("name",) else f"'{key}'"
        given = name if loc == ("name",) else str(value)
        why = _unsafe(given, as_name=True)
        reader.report(loc, f"{what} cannot be {_short(given)}: {why + '; ' if why else ''}{SLUG_RULE}{_suggest(given)}")
    elif kind in SAID_BETTER:
        reader.report(loc, f"'{key}' {SAID_BETTER[kind].format(**error.get('ctx', {}))}")
    else:
        reader.report(loc, error["msg"].removeprefix("Value error, "))


def _label(loc: Loc) -> str:
    return f"item {loc[-1] + 1}" if isinstance(loc[-1], int) else loc[-1]


def _unknown(loc: Loc) -> str:
    if loc[-1] == "<<":
        return "merge keys ('<<') are not allowed: write the keys out"
    model = MODELS[tuple(x for x in loc[:-1] if isinstance(x, str))]
    known = [k for k in model.model_fields if model is not Constitution or k != "name"]
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    advice = f"did you mean '{near[0]}'?" if near else f"the keys here are {', '.join(known)}"
    return f"there is no key {_short(str(loc[-1]))}: {advice}"


def _yaml_type(plain: str) -> str:
    tag: str = RESOLVER.resolve(yaml.ScalarNode, plain, (True, False))  # type: ignore[no-untyped-call]
    return tag.rpartition(":")[2]


def _unsafe(value: str, *, as_name: bool) -> str | None:
    if bad := (NOT_IN_A_NAME if as_name else CONTROL).search(value):
        return f"it holds the invisible character U+{ord(bad[0]):04X}: remove it"
    if as_name and not unicodedata.is_normalized("NFC", value):
        return "it is not in Unicode normal form NFC: type its accented letters again"
    return None


def _suggest(value: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", value.casefold()).strip("-")[:63].strip("-")
    return f"; for example \"{slug}\"" if slug else ""


def _quoted(loc: Loc, value: str) -> str:
    return (_suggest(value).removeprefix("; for example ") if loc[1:] == ("version",) else "") or f'"{value[:40]}"'


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    lines = text.splitlines()
    mark = _mark(error.problem_mark)
    before = lines[mark.line - 1][: mark.column] if mark.line <= len(lines) else ""
    quote = "a text that holds ':' or '#' needs quotes or a '|' block"
    advice = "indent with spaces, not tabs" if "\t" in before else quote
    return f"not valid YAML: {error.problem}; {advice}"


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:50] + "...'"


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
