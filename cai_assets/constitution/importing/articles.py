"""A document of articles and numbered clauses, read from Markdown.

The forms are those in which charters are published: a heading for each clause (the Danish charter, the value
specification of Apertus II), clauses as numbered items or paragraphs, and an article as one paragraph whose sentences
carry their numbers in brackets (the Swiss AI Charter). Guarantee: every piece of the document becomes a clause, a part
of one, or is reported as left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from cai_assets.constitution.importing.entries import LeftOut
from cai_assets.constitution.importing.marks import (
    DOTTED,
    INSIDE,
    STATUSES,
    bases,
    headed,
    marked,
    numbered,
    remark,
)
from cai_assets.constitution.importing.prose import FRONT_MATTER
from cai_assets.constitution.importing.vocabulary import NO_PRINCIPLE
from cai_assets.constitution.model import slug_of

COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
VERSION = re.compile(r"^v(?:ersion)?\.?\s*(\d[\w.-]*)$", re.IGNORECASE)
DROPPED = {"fence": "a code block", "code_block": "a code block", "table_open": "a table"}
FOOTNOTE = re.compile(r"^ {0,3}\[\^[^\]\s]+\]:")
FOOTNOTE_MARK = re.compile(r"\[\^[^\]\s]+\]")
CALLED = re.compile(r"(?:article|art\.|domain|chapter)\s", re.IGNORECASE)
OF_A_DOCUMENT = {"why", "basis", "status", "priority", "id"}
LONGEST_TITLE = 8  # words of a title that runs into the text


class DocumentRead(NamedTuple):
    """``articles``: as ``model.Article`` takes them; ``about``: what describes the whole."""

    articles: list[dict[str, Any]]
    left_out: list[LeftOut]
    about: str
    version: str


@dataclass
class _Part:
    """An article or a clause that is being read. ``open``: the label whose text goes on in the next block."""

    line: int
    number: str
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    clauses: list[_Part] = field(default_factory=list)
    open: str | None = None

    def take(self, name: str, text: str) -> None:
        """What a labeled remark says of it."""
        if name == "basis":
            self.facts["basis"] = list(dict.fromkeys([*self.facts.get("basis", []), *bases(text)]))
        elif name == "examples":
            self.facts["examples"] = [*self.facts.get("examples", []), text]
        elif name == "source" and (found := _ids(text)):
            self.facts["basis"] = list(dict.fromkeys([*self.facts.get("basis", []), *found]))
        elif name in {"why", "source"}:
            self.facts[name] = "\n".join(filter(None, [self.facts.get(name), text]))
        else:
            self.facts[name] = text


def is_document(text: str) -> bool:
    """Whether a text in Markdown has numbered clauses (4.2), articles that are called so, or reasons beside clauses."""
    return _Reader().read(text).is_document


def read_articles(text: str) -> DocumentRead:
    """The articles of a document in Markdown."""
    reader = _Reader().read(text)
    articles = [article for part in reader.parts if (article := reader.article(part))]
    return DocumentRead(articles, sorted(reader.left_out, key=lambda x: int(x.where.split()[-1])),
                        " ".join(" ".join(reader.about).split()), reader.version)


class _Reader:
    """Goes through the blocks of a document once."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.left_out: list[LeftOut] = []
        self.about: list[str] = []
        self.version = ""
        self.clause: _Part | None = None
        self.offset = 0
        self.is_document = False
        self.taken: tuple[set[str], set[str]] = set(), set()  # ids of articles and of clauses

    def read(self, text: str) -> _Reader:
        if front := FRONT_MATTER.match(text):
            self.drop(1, "is front matter")
            text, self.offset = text[front.end():], front[0].count("\n")
        text = self.without_footnotes(text)
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        i = 0
        while i < len(tokens):
            end = _end(tokens, i)
            self.block(tokens[i : end + 1])
            i = end + 1
        return self

    def without_footnotes(self, text: str) -> str:
        """The same lines without footnotes, which would else end the clause that they happen to stand below."""
        lines, inside = text.split("\n"), False
        for n, line in enumerate(lines):
            starts = FOOTNOTE.match(line)
            inside = bool(starts or (inside and line.strip()))
            if starts:
                self.drop(n + 1 + self.offset, f"is a footnote: {line[starts.end():].strip()[:60]!r}")
            lines[n] = "" if inside else FOOTNOTE_MARK.sub("", line)
        return "\n".join(lines)

    def drop(self, line: int, why: str) -> None:
        self.left_out.append(LeftOut(f"line {line}", why))

    @property
    def here(self) -> _Part | None:
        return self.clause or (self.parts[-1] if self.parts else None)

    def block(self, tokens: Sequence[Token]) -> None:
        first = tokens[0]
        line = (first.map or [0])[0] + 1 + self.offset
        if first.type == "heading_open":
            self.heading(_plain(tokens[1]), int(first.tag[1]), line)
        elif first.type == "paragraph_open":
            self.paragraph(tokens[1], line)
        elif first.type == "blockquote_open":
            self.quote(" ".join(_plain(t) for t in tokens if t.type == "inline"), line)
        elif first.type in {"bullet_list_open", "ordered_list_open"}:
            self.items(tokens)
        elif first.type == "html_block":
            self.comment(first.content, line)
        elif first.type in DROPPED:
            self.drop(line, f"is {DROPPED[first.type]}")

    def heading(self, text: str, level: int, line: int) -> None:
        text, status, given = marked(" ".join(text.split()))
        number, rest = numbered(text)
        label = remark(f"{text.rstrip(':')}:")
        if number:
            self.is_document = True
            self.begin(line, number, rest, status, given)
        elif self.clause and label:
            self.clause.open = label.field
        elif level == 1 and not self.parts:
            self.about.append(text)
        else:
            self.clause = None
            plain, title = headed(text)
            self.is_document |= bool(plain and CALLED.match(text))
            self.parts.append(_Part(line, plain, title, _marks(status, given)))

    def begin(self, line: int, number: str, name: str = "", status: str = "", given: str = "") -> _Part:
        """A clause, in the newest article or in one of its own."""
        head = number.rpartition(".")[0]
        if not self.parts or (self.parts[-1].number.casefold() != head.casefold() and self.parts[-1].number.isdigit()
                              and head.isdigit()):
            self.parts.append(_Part(line, head, ""))
        self.clause = _Part(line, number, name, _marks(status, given))
        self.parts[-1].clauses.append(self.clause)
        return self.clause

    def paragraph(self, inline: Token, line: int) -> None:
        text = _plain(inline)
        if INSIDE.search(text) and not numbered(text)[0] and not (self.here and self.here.open is not None):
            self.bracketed(text, line)
            return
        whole = _emphasized(inline)
        for one in text.split("\n") if whole or not self.parts else _said_apart(text):
            self.line(" ".join(one.split()), line, aside=whole)

    def line(self, text: str, line: int, *, aside: bool = False) -> None:
        """A paragraph, or a line of remarks. ``aside``: all of it is in italics."""
        found, part = remark(text), self.here
        if found and part:
            part.open = found.field if not found.text else None
            if not found.field:
                self.drop(line, f"is a remark: {text[:60]!r}")
            elif found.text:
                self.is_document |= bool(part.texts) and found.field in OF_A_DOCUMENT
                part.take(found.field, found.text)
        elif numbered(text)[0] and (self.clause is None or self.clause.texts or self.clause.facts):
            number, rest = numbered(text)
            rest, status, given = marked(rest)
            self.is_document = True
            self.begin(line, number, "", status, given).texts.append(rest)
        elif not self.parts:
            if version := VERSION.match(text.strip("* ")):
                self.version = slug_of(version[1])
            else:
                self.about.append(text)
        elif part and part.open is not None:
            part.take(part.open, text) if part.open else self.drop(line, f"is a remark: {text[:60]!r}")
            part.open = None if part.open not in {"examples", "basis", "why"} else part.open
        elif aside or self.after_remarks(part):
            self.drop(line, f"is an aside: {text[:60]!r}")
        elif part:
            part.texts.append(marked(text)[0] if part is self.clause else text)

    def after_remarks(self, part: _Part | None) -> bool:
        """A clause's own text comes before what is said about it, but for comments above it."""
        return bool(part and part is self.clause and part.texts and (part.facts.keys() & {"why", "examples"}))

    def quote(self, text: str, line: int) -> None:
        text, part = " ".join(text.split()), self.here
        found = remark(text)
        if found or (part and part.open is not None):
            self.line(text, line)
        elif part and part is self.clause and not part.texts:
            part.texts.append(text)
        else:
            self.drop(line, f"is a quotation: {text[:60]!r}")

    def comment(self, html: str, line: int) -> None:
        for text in (" ".join(c.split()) for c in COMMENT.findall(html)):
            found, part = remark(text), self.here
            if found and found.field and found.text and part:
                part.take(found.field, found.text)
            else:
                self.drop(line, f"is a comment: {text[:60]!r}")
        if COMMENT.sub("", html).strip():
            self.drop(line, "is HTML")

    def items(self, tokens: Sequence[Token]) -> None:
        """Items with numbers, and the items of an article that has no clause yet, are clauses; others belong to one."""
        ordered, start = tokens[0].type == "ordered_list_open", int(tokens[0].attrGet("start") or 1)
        under = self.clause
        for n, (item, line) in enumerate(_items(tokens, self.offset)):
            texts = [_plain(t) for t in item if t.type == "inline"]
            head, rest = " ".join((texts or [""])[0].split()), [" ".join(t.split()) for t in texts[1:]]
            number, text = numbered(head)
            if INSIDE.search(head) and not number and not (self.here and self.here.open):
                self.bracketed(head, line, str(start + n) if ordered else "")
            elif number or (self.parts and under is None and not (self.parts[-1].open or remark(head))):
                article = self.parts[-1].number if self.parts else ""
                made = number or (f"{article}.{start + n}" if ordered and article else "")
                text, status, given = marked(text)
                self.is_document |= bool(number)
                self.clause_of_item(line, made, [text, *rest], _marks(status, given))
                under = None
            elif self.here and not self.here.open and self.here is self.clause and not remark(head):
                self.here.texts += [f"- {t}" for t in [head, *rest]]
            elif self.parts:
                for one in [head, *rest]:
                    self.line(one, line)
            else:
                self.about.append(head)
        if under is None:
            self.clause = None

    def clause_of_item(self, line: int, number: str, texts: Sequence[str], marks: dict[str, Any]) -> None:
        """A clause of an item: what is nested in it belongs to it."""
        clause = self.begin(line, number) if number else _Part(line, "", "")
        if not number:
            self.parts[-1].clauses.append(clause)
        self.clause = clause
        clause.facts |= marks
        clause.texts.append(texts[0])
        for one in texts[1:]:
            said = remark(one)
            if said and said.field:
                self.is_document |= said.field in OF_A_DOCUMENT
                clause.take(said.field, said.text)
            else:
                clause.texts.append(f"- {one}")

    def bracketed(self, text: str, line: int, ordinal: str = "") -> None:
        """An article in one paragraph: each number in brackets ends the clause that it counts."""
        self.is_document = True
        ordinal, text = (ordinal, text) if ordinal else headed(text)
        pieces = INSIDE.split(" ".join(text.split()))
        title, first = "", pieces[0]
        lead, dot, rest = first.partition(". ")
        if dot and rest and len(lead.split()) <= LONGEST_TITLE and ordinal:
            title, pieces[0] = lead, rest
        if title or not self.parts or self.parts[-1].clauses:
            self.parts.append(_Part(line, ordinal or pieces[1].rpartition(".")[0], title))
        for words, number in zip(pieces[::2], pieces[1::2], strict=False):
            said = re.sub(r"^[\s.,;:]*(?:and\s+|while\s+)?", "", words)
            self.begin(line, number).texts.append(f"{said[:1].upper()}{said[1:]}".rstrip(" ,;.") + ".")
        if pieces[-1].strip(" .,;"):
            self.drop(line, f"stands after the last number: {pieces[-1].strip()[:60]!r}")
        self.clause = None

    def article(self, part: _Part) -> dict[str, Any] | None:
        """An article as the model takes it; None if it holds no clause."""
        name = part.title.casefold().strip(" :.")
        if name in NO_PRINCIPLE or not (part.clauses or (part.number and part.texts)):
            what = f"the section {part.title!r}" if part.title else "a part"
            self.drop(part.line, f"{what} holds no clause" + (f" ({len(part.clauses)} items)" if part.clauses else ""))
            return None
        if not part.clauses:
            own = {k: v for k, v in part.facts.items() if k != "id"}
            only = _Part(part.line, part.number, part.title, own, part.texts)
            part.facts, part.texts, part.clauses = {}, [], [only]
        for text in part.texts:
            self.drop(part.line, f"is not a clause: {text[:60]!r}")
        status = part.facts.get("status", "")
        clauses = [c for clause in part.clauses if (c := self.clause_of(clause, part, status))]
        facts: dict[str, Any] = {"id": self.free(part.facts.get("id") or part.number or slug_of(part.title)
                                                 or "article", self.taken[0])}
        facts |= {"title": part.title} if part.title else {}
        facts |= {"why": part.facts["why"]} if part.facts.get("why") else {}
        facts |= {"priority": int(part.facts["priority"])} if part.facts.get("priority", "").isdigit() else {}
        for name in part.facts.keys() - {"id", "why", "priority", "status", "source", "basis"}:
            self.drop(part.line, f"{name!r} of an article has no place")
        return {**facts, "clauses": clauses} if clauses else None

    def clause_of(self, clause: _Part, article: _Part, status: str) -> dict[str, Any] | None:
        text = "\n".join(clause.texts).strip() or (clause.title if clause.number else "")
        if not text:
            self.drop(clause.line, "has a number and no text" if clause.number else "is empty")
            return None
        wanted = clause.facts.get("id") or clause.number or slug_of(clause.title)[:40] or slug_of(text)[:40].strip("-")
        made = self.free(wanted or slug_of(f"{article.title}-clause"), self.taken[1])
        own = STATUSES.get(str(clause.facts.get("status") or status).casefold(), "active")
        facts = {k: v for k, v in clause.facts.items() if k in {"why", "source", "examples", "basis"} and v}
        return {"id": made, **({"name": clause.title} if clause.title and clause.title != text else {}), "text": text,
                **({"number": clause.number} if clause.number and clause.number.lower() != made else {}),
                **facts, **({"status": own} if own != "active" else {})}

    def free(self, wanted: str, taken: set[str]) -> str:
        """An id like the one wanted that nobody has."""
        base = re.sub(r"[^a-z0-9.-]+", "-", wanted.lower()).strip("-.")[:60] or "clause"
        made = next(i for n in range(1, len(taken) + 2) if (i := base if n == 1 else f"{base}-{n}") not in taken)
        taken.add(made)
        return made


def _said_apart(text: str) -> list[str]:
    """A paragraph, with each remark that begins a line of it by itself."""
    parts = [""]
    for line in text.split("\n"):
        if remark(line) and parts[-1]:
            parts.append(line)
        else:
            parts[-1] = f"{parts[-1]} {line}".strip()
    return parts


def _marks(status: str, given: str) -> dict[str, Any]:
    return {name: value for name, value in (("status", status), ("id", given)) if value}


def _ids(text: str) -> list[str]:
    """Ids of clauses in a text that also holds links."""
    found = bases(re.sub(r"\(?https?://\S+", "", text))
    return [i for i in found if re.fullmatch(DOTTED, i)]


def _items(tokens: Sequence[Token], offset: int) -> list[tuple[Sequence[Token], int]]:
    return [(tokens[i : _end(tokens, i) + 1], (t.map or [0])[0] + 1 + offset) for i, t in enumerate(tokens)
            if t.type == "list_item_open" and t.level == tokens[0].level + 1]


def _end(tokens: Sequence[Token], start: int) -> int:
    """Where the block that starts here ends."""
    if tokens[start].nesting != 1:
        return start
    return next(i for i in range(start + 1, len(tokens))
                if tokens[i].level == tokens[start].level and tokens[i].nesting == -1)


def _plain(inline: Token) -> str:
    """A text without its markup, tags and comments."""
    return "".join("\n" if c.type in {"softbreak", "hardbreak"} else "" if c.type == "html_inline" else c.content
                   for c in inline.children or []).strip()


def _emphasized(inline: Token) -> bool:
    """Whether all of a paragraph is in italics."""
    children = [c for c in inline.children or [] if c.content.strip() or c.nesting]
    depth = 0
    for child in children:
        depth += child.nesting if child.type.startswith("em_") else 0
        if child.type == "text" and not depth and child.content.strip():
            return False
    return bool(children) and children[0].type == "em_open"
