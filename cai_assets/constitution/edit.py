"""Change texts of a constitution file, and leave everything else of it as it is: comments, order, spacing.

Guarantee: the new file holds what the old one did with these texts changed and nothing else, or EditError says why not.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from cai_assets.constitution.file_form import WIDTH
from cai_assets.errors import CaiError

TEXTS = ("name", "text", "critique", "revision", "preference", "evaluation", "rubric", "why")
AT_TOP = ("version", "description")
Place = tuple[str, str]  # the id of a principle or clause and a field of TEXTS; or '' and a field of AT_TOP


class EditError(CaiError, ValueError):
    """A text cannot be changed in this file. The message says which and what to do instead."""


class Span(NamedTuple):
    """Where a value begins and ends in the file, by how much its key is indented, and whether no block may stand
    there: more follows on its line, or it is in braces."""

    start: int = 0
    end: int = 0
    indent: int = 0
    inline: bool = False


def texts(file: str) -> dict[str, dict[str, str]]:
    """By id, in file order, the texts of each principle and clause that stand in a valid file; '': those at the top."""
    found: dict[str, dict[str, str]] = {}
    for (rule, field), node, _ in _values(file):
        found.setdefault(rule, {})[field] = node.value.strip()
    return found


def edited(file: str, changes: Mapping[Place, str]) -> str:
    """The text of a valid file with other texts. Raise EditError."""
    changes = {place: text.replace("\r\n", "\n").strip() for place, text in changes.items()}
    spans = {place: _span(file, node, mapping) for place, node, mapping in _values(file)}
    wanted = texts(file)
    for place in sorted(changes, key=lambda p: spans.get(p, Span()), reverse=True):
        named = " ".join(filter(None, place))
        if place not in spans:
            raise EditError(f"{named} is not in the file: add it there")
        if not changes[place]:
            raise EditError(f"{named} is blank: write a text, or remove it from the file as a whole")
        file = _put(file, spans[place], changes[place], quoted=place == ("", "version"))
        wanted[place[0]][place[1]] = changes[place]
    if not _reads_as(file, wanted):
        raise EditError("the file cannot be changed without changing more than this: edit it as a whole")
    return file


def _reads_as(file: str, wanted: Mapping[str, Mapping[str, str]]) -> bool:
    try:
        return texts(file) == wanted
    except yaml.YAMLError:
        return False


def _values(file: str) -> Iterator[tuple[Place, yaml.ScalarNode, Any]]:
    """Each text with its place and the mapping that it stands in."""
    root: Any = yaml.compose(file, Loader=yaml.CSafeLoader)
    yield from _of("", root, AT_TOP)
    clauses = (clause for article in _items(root, "articles") for clause in _items(article, "clauses"))
    for rule in (*_items(root, "principles"), *clauses):
        yield from _of(next(value.value for key, value in rule.value if key.value == "id"), rule, TEXTS)


def _of(rule: str, mapping: Any, fields: tuple[str, ...]) -> Iterator[tuple[Place, yaml.ScalarNode, Any]]:
    for key, value in mapping.value:
        if key.value in fields and isinstance(value, yaml.ScalarNode):
            yield (rule, key.value), value, (mapping, key)


def _items(mapping: Any, name: str) -> list[Any]:
    return next((value.value for key, value in mapping.value if key.value == name), [])


def _span(file: str, value: yaml.ScalarNode, where: Any) -> Span:
    mapping, key = where
    end = _end(file, value)
    inline = bool(mapping.flow_style) or bool(file[end:].partition("\n")[0].strip())
    return Span(value.start_mark.index, end, key.start_mark.column, inline)


def _end(file: str, value: yaml.ScalarNode) -> int:
    """Without the blank lines after a block, which belong to nobody."""
    start, end = value.start_mark.index, value.end_mark.index
    return start + len(file[start:end].rstrip()) if value.style in {"|", ">"} else end


def _put(file: str, span: Span, text: str, *, quoted: bool) -> str:
    new = _scalar(text, " " * (span.indent + 2), quoted=quoted or span.inline)
    return file[: span.start] + (new.replace("\n", "\r\n") if "\r\n" in file else new) + file[span.end :]


def _scalar(text: str, indent: str, *, quoted: bool) -> str:
    """A folded block of a text in one paragraph, a literal one of several lines; in quotes what no block can hold."""
    lines = text.split("\n")
    plain = all(line == line.strip() and line.isprintable() for line in lines)
    if quoted or not plain:
        return json.dumps(text, ensure_ascii=False)
    if len(lines) == 1 and "  " not in text:
        wrapped = textwrap.wrap(text, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
        return "".join([">-", *(f"\n{indent}{line}" for line in wrapped)])
    return "".join(["|-", *(f"\n{indent}{line}".rstrip(" ") for line in lines)])
