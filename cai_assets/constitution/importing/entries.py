"""What may be a principle in data of any form: records by the names of their keys, sentences, and groups of both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from cai_assets.constitution.check import Check
from cai_assets.constitution.importing.prose import Clause, clauses
from cai_assets.constitution.importing.vocabulary import ABOUT, CHATS, CONTAINER, FACTS, REQUESTS, SENTENCES, plain

DEEPEST = 8
TRANSCRIPT = re.compile(r"(?:\A|\n)\s*(?:human|assistant)\s*:", re.IGNORECASE)
COLUMNS = "such as 'principle', 'critique', or 'revision'"
MARKED = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """What may be a principle, as the file has it. ``keys``: the file's key behind each field; ``unused``: its keys
    that have no place in a constitution."""

    where: str
    text: str = ""
    id: str = ""
    name: str = ""
    critique: str = ""
    revision: str = ""
    preference: str = ""
    evaluation: str = ""
    weight: str = ""
    rubric: str = ""
    check: Check | None = None
    gate: bool = False
    source: str = ""
    why: str = ""
    priority: str = ""
    tags: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


class LeftOut(NamedTuple):
    """Something of the file that is in no constitution, and why."""

    where: str
    why: str


class Chat(NamedTuple):
    """A conversation with a critique and a revision, given as an example: each turn's (role, text)."""

    where: str
    turns: tuple[tuple[str, str], ...]


Found = Entry | LeftOut | Chat


def entries_of(data: Any) -> Iterator[Found]:
    """Everything in the data that may be a principle or an example, in file order, and what is neither."""
    if isinstance(data, dict):
        yield from _whole(data)
    else:
        yield from _within(data, "", Entry(""))


def _whole(data: Mapping[str, Any]) -> Iterator[Found]:
    containers = dict(_containers(data, ""))
    if not containers and (record := _record(data, Entry("the file"))) and _requests(record[0]):
        yield from record
        return
    for key, value in data.items():
        if CHATS.search(plain(key)):
            yield from _chats(value, key)
        elif plain(key) not in ABOUT | {"fewshots"} and not any(_inside(path, key) for path in containers):
            if containers:
                yield LeftOut(key, "is not part of the principles")
            else:
                yield from _within(value, key, Entry("", id=key))
    for path, value in containers.items():
        yield from _within(value, path, Entry(""))


def _containers(data: Mapping[str, Any], path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The lists and mappings whose key says that they hold principles; those of the file before those inside them."""
    named = [(f"{path}{k}", v) for k, v in data.items()
             if CONTAINER.search(plain(k)) and (isinstance(v, list | dict) or (isinstance(v, str) and "\n" in v)) and v]
    if named or depth > 2:
        yield from named
        return
    for key, value in data.items():
        if isinstance(value, dict) and _record(value, Entry("")) is None:
            yield from _containers(value, f"{path}{key}.", depth + 1)


def _inside(path: str, key: str) -> bool:
    return path == key or path.startswith(f"{key}.")


def _within(node: Any, where: str, given: Entry, depth: int = 0) -> Iterator[Found]:
    """``given``: what is known of all that lies in this node, from the keys on the way to it."""
    if depth > DEEPEST:
        yield LeftOut(where, "is nested too deep")
    elif isinstance(node, str):
        yield from _texts(node, where, given)
    elif isinstance(node, list):
        group = replace(given, id="", tags=(*given.tags, given.id) if given.id else given.tags)
        for i, item in enumerate(node):
            place = f"{where}[{i}]"
            yield from _chats([item], where) if _is_chat(item) else _within(item, place, group, depth + 1)
    elif isinstance(node, dict):
        yield from _record(node, replace(given, where=where)) or _named(node, where, given, depth)
    else:
        yield LeftOut(where, "is no text" if node is not None else "is empty")


def _named(node: Mapping[str, Any], where: str, given: Entry, depth: int) -> Iterator[Found]:
    tags = (*given.tags, given.id) if given.id else given.tags
    for key, value in node.items():
        yield from _within(value, f"{where}.{key}" if where else key, Entry("", id=key, tags=tags), depth + 1)
    if not node:
        yield LeftOut(where, "is empty")


def _texts(text: str, where: str, given: Entry) -> Iterator[Found]:
    if TRANSCRIPT.search(text):
        yield LeftOut(where, "is a transcript of a conversation")
    elif "\n\n" in text.strip() or ("\n" in text.strip() and MARKED.search(text)):
        for found in clauses(text):
            yield from_clause(found, f"{where}, line {found.line}", given)
    else:
        yield replace(given, where=where, text=text)


def from_clause(clause: Clause, where: str, given: Entry) -> Found:
    """What a piece of prose is: an entry, or left out."""
    if clause.why:
        return LeftOut(where, clause.why)
    if clause.row:
        records = _record(dict(clause.row), replace(given, where=where, tags=(*given.tags, *clause.tags)))
        return records[0] if records else LeftOut(where, f"is a row of a table without a column {COLUMNS}")
    return replace(given, where=where, text=clause.text, name=clause.name, tags=(*given.tags, *clause.tags))


def _record(node: Mapping[str, Any], given: Entry) -> list[Entry] | None:
    """The principle of a mapping with known keys; several if its critique is a list of alternatives (Bai et al.).

    None if it has neither a request nor a sentence.
    """
    fields: dict[str, Any] = {}
    keys, unused = [], []
    names = {plain(key): key for key in node}
    known = REQUESTS | FACTS | ({"prompt": "critique"} if "editrequest" in names else {})
    sentence = next((n for n in SENTENCES if _value(node.get(names.get(n, "")), "text")), "")
    for name, key in names.items():
        field = "text" if name == sentence else known.get(name, "")
        value = _value(node[key], field)
        if value and field and field not in fields:
            fields[field] = value
            keys.append((key, field))
        elif node[key] not in (None, "", [], {}):
            unused.append(key)
    if not any(fields.get(f) for f in ("text", "rubric", "check", *REQUESTS.values())):
        return None
    critique = fields.get("critique", "")
    several: list[str] = critique if isinstance(critique, list) else [critique]
    whole = replace(given, **{**fields, "critique": ""}, keys=tuple(keys), unused=tuple(unused))
    whole = replace(whole, tags=(*given.tags, *whole.tags))
    return [replace(whole, critique=text, where=f"{given.where}, {i + 1}" if i else given.where)
            for i, text in enumerate(several)]


def _value(value: Any, field: str) -> Any:
    """A value as a field takes it; nothing if it cannot."""
    if field == "tags":
        values = value if isinstance(value, list) else [value]
        return tuple(str(v) for v in values if isinstance(v, str | int) and str(v).strip())
    if field == "check":
        return _check(value)
    if field == "gate":
        return value in (True, "true")
    if field == "critique" and isinstance(value, list):
        return [v for v in value if isinstance(v, str) and v.strip()]
    if field in {"id", "weight", "name", "priority"} and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _check(value: Any) -> Check | None:
    """A rule as this project writes it; anything else under that key is no rule of it."""
    try:
        given = {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else None
        return Check.model_validate(given, strict=False) if given else None
    except ValidationError:
        return None


def _requests(entry: Entry) -> bool:
    return bool(entry.critique or entry.revision or entry.preference or entry.evaluation)


def _is_chat(node: Any) -> bool:
    return isinstance(node, list) and bool(node) and all(isinstance(t, dict) and "role" in t for t in node)


def _chats(node: Any, where: str) -> Iterator[Found]:
    for i, chat in enumerate(node if isinstance(node, list) else []):
        turns = tuple((str(t.get("role")), str(t.get("content", ""))) for t in chat) if _is_chat(chat) else ()
        yield Chat(f"{where}[{i}]", turns)
