"""Clauses of a document: items of lists, sections of headings, or, in a text without either, one clause a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from cai_assets.constitution.importing.vocabulary import NO_PRINCIPLE

FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
NUMBER = re.compile(r"^(?:(?:article|principle|rule|section|clause)\s+)?(?:\d+(?:\.\d+)*|[ivxlc]+|[a-z])[.):]\s+",
                    re.IGNORECASE)
BULLET = re.compile(r"^(\s*)[•◦▪–]\s+", re.MULTILINE)
OTHER = {"fence": "a code block", "html_block": "HTML"}
BOLD = re.compile(r"\*\*([^*]+)\*\*[\s:.–—-]*\w")  # with other words after it
MARKS = " \n:.–—-"
ENDS = tuple(".!?;:)\"'”’")


class Clause(NamedTuple):
    """A piece of a document, from ``line``, counted from 1. ``why``: it is no principle; ``about``: it is of all;
    ``row``: it is a row of a table, by column."""

    text: str
    line: int
    name: str = ""
    tags: tuple[str, ...] = ()
    why: str = ""
    about: bool = False
    row: tuple[tuple[str, str], ...] = ()


@dataclass
class _Section:
    """What stands below one heading, up to the next."""

    heading: str = ""
    level: int = 0
    line: int = 1
    items: list[Clause] = field(default_factory=list)
    paragraphs: list[Clause] = field(default_factory=list)
    other: list[Clause] = field(default_factory=list)


def clauses(text: str) -> Iterator[Clause]:
    """Every clause of a document in Markdown or plain text, and what of it is none."""
    front = FRONT_MATTER.match(text)
    if front:
        yield Clause("", 1, why="is front matter")
        text = "\n" * front[0].count("\n") + text[front.end():]
    sections = list(_sections(BULLET.sub(r"\1- ", text)))
    title = sections.pop(0) if len(sections) > 1 and sections[0].level == 1 and not sections[0].items else None
    if title:
        yield from (p._replace(about=True) for p in [Clause(title.heading, title.line), *title.paragraphs])
        yield from title.other
    if any(s.items for s in sections) or len(sections) > 1 or title:
        for i, section in enumerate(sections):
            yield from _of_section(section, sections[i + 1 : i + 2])
    else:
        yield from _of_lines(sections)


def _of_section(section: _Section, following: Sequence[_Section]) -> Iterator[Clause]:
    name = NUMBER.sub("", section.heading)
    if section.heading and section.level == 1 and section.items:
        yield Clause(section.heading, section.line, about=True)
    if section.items:
        tags = (name,) if section.level > 1 else ()
        yield from (p._replace(why=f"is not a list item: {_one_line(p.text)[:60]!r}") for p in section.paragraphs)
        yield from (c._replace(tags=tags) for c in section.items)
    elif name.casefold().strip(" :.") in NO_PRINCIPLE:
        yield Clause("", section.line, why=f"the section {name!r} is not a principle")
    elif section.paragraphs and section.heading:
        yield Clause("\n".join(_one_line(p.text) for p in section.paragraphs), section.line, name)
    elif section.paragraphs:
        before = "stands before the first heading"
        yield from (p._replace(why=f"{before}: {_one_line(p.text)[:60]!r}") for p in section.paragraphs)
    elif section.heading and not any(s.level > section.level for s in following):
        yield Clause(name, section.line)
    yield from section.other


def _of_lines(sections: Sequence[_Section]) -> Iterator[Clause]:
    """A text without lists: each line, or each paragraph where lines go on in the next one."""
    for section in sections:
        if section.heading:
            yield Clause(section.heading, section.line, about=True)
        lines = [[line.strip() for line in p.text.split("\n")] for p in section.paragraphs]
        wrapped = any(not line.endswith(ENDS) for paragraph in lines for line in paragraph[:-1])
        for paragraph, found in zip(lines, section.paragraphs, strict=True):
            if wrapped:
                yield found._replace(text=" ".join(paragraph))
            else:
                yield from (found._replace(text=line, line=found.line + i) for i, line in enumerate(paragraph))
        yield from section.other


def _sections(text: str) -> Iterator[_Section]:
    tokens = MarkdownIt("commonmark").enable("table").disable("code").parse(text)
    section, i = _Section(), 0
    while i < len(tokens):
        token, line = tokens[i], (tokens[i].map or [0])[0] + 1
        end = _end(tokens, i)
        if token.type == "heading_open":
            if section != _Section():
                yield section
            section = _Section(_one_line(_plain(tokens[i + 1])), int(token.tag[1]), line)
        elif token.type in {"bullet_list_open", "ordered_list_open"}:
            section.items += _items(tokens[i:end])
        elif token.type == "table_open":
            section.items += _rows(tokens[i:end])
        elif token.type in {"paragraph_open", "blockquote_open"}:
            section.paragraphs.append(_clause(tokens[i : end + 1], line))
        elif token.type in OTHER:
            section.other.append(Clause("", line, why=f"is {OTHER[token.type]}"))
        i = end + 1
    yield section


def _end(tokens: Sequence[Token], start: int) -> int:
    """Where the block that starts here ends."""
    if tokens[start].nesting != 1:
        return start
    return next(i for i in range(start + 1, len(tokens))
                if tokens[i].level == tokens[start].level and tokens[i].nesting == -1)


def _items(tokens: Sequence[Token]) -> Iterator[Clause]:
    """The items of a list; what is nested in an item belongs to it."""
    for i, token in enumerate(tokens):
        if token.type == "list_item_open" and token.level == tokens[0].level + 1:
            yield _clause(tokens[i : _end(tokens, i) + 1], (token.map or [0])[0] + 1)


def _rows(tokens: Sequence[Token]) -> Iterator[Clause]:
    """The rows of a table, by the columns that its first row names."""
    rows: list[tuple[int, list[str]]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(((token.map or [0])[0] + 1, []))
        elif token.type == "inline":
            rows[-1][1].append(_one_line(_plain(token)))
    for line, cells in rows[1:]:
        yield Clause(" ".join(cells), line, row=tuple(zip(rows[0][1], cells, strict=False)))


def _clause(tokens: Sequence[Token], line: int) -> Clause:
    """The text of a block. Of an item the bold words at its beginning are its name, and nested items stay a list."""
    item, depth, name, parts = tokens[0].type == "list_item_open", 0, "", list[str]()
    for token in tokens:
        depth += token.nesting if token.type.startswith("list_item") else 0
        if token.type == "inline":
            bold = BOLD.match(token.content) if item and not parts else None
            name = bold[1].strip(MARKS) if bold else name
            parts.append(("- " if depth > item else "") + (_one_line(_plain(token)) if item else _plain(token)))
    return Clause("\n".join(parts), line, name)


def _plain(inline: Token) -> str:
    """A text without its markup."""
    return "".join("\n" if c.type in {"softbreak", "hardbreak"} else c.content for c in inline.children or []).strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
