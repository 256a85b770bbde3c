"""From entries to principles: wrappers go, ids are made, and what a file does not have is filled from a template."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from rapidfuzz import utils

from cai_assets.constitution.digest import REWARDS
from cai_assets.constitution.importing.entries import Entry, LeftOut
from cai_assets.constitution.lint import USES
from cai_assets.constitution.model import Fill, Principle, slug_of
from cai_assets.constitution.reader import MARKER, short, unsafe
from cai_assets.constitution.templates import REQUESTS, filled

NUMBER = re.compile(r"\A(?:[-*•]|\(?\d{1,3}[.)])\s+")
# What Bai et al. 2022 put around a request, for a model without a chat template.
WRAPPERS = (re.compile(r"\A(?:critique|revision|preference)\s*request\s*:\s*", re.IGNORECASE),
            re.compile(r"\s*\b(?:critique|revision|options|answer)\s*:\Z", re.IGNORECASE))
LEAD = re.compile(r"(?:please\s+)?(?:choose|select|pick)\s+(?:the\s+)?(?:assistant\s+)?(?:response|answer)\s+"
                  r"(?:that\s+|which\s+)?(?:is|are)?\s*", re.IGNORECASE)
LONGEST, LONGEST_ID = 20_000, 40


@dataclass
class Maker:
    """Makes principles one by one, and counts what it did. ``source``: the name of the file.

    ``clauses``: ids of the file's own clauses, which stay as they are; ``filled``: requests by template; ``wrappers``:
    what was cut off requests; ``unused``: keys without a place here.
    """

    source: str
    fill: Fill
    clauses: frozenset[str] = frozenset()
    principles: list[Principle] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    mapped: Counter[tuple[str, str]] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)
    wrappers: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """One principle more, or one entry left out."""
        texts = {f: self._text(getattr(entry, f)) for f in REQUESTS}
        used = filled(texts, self._text(entry.text), self.fill)
        why = _fault(entry, texts) or self._repeated(texts)
        if why:
            self.left_out.append(LeftOut(entry.where, why))
            return
        try:
            principle = Principle(**self._facts(entry, texts) | {f: t for f, t in texts.items() if t})
        except ValidationError as e:
            self.left_out.append(LeftOut(entry.where, e.errors()[0]["msg"].removeprefix("Value error, ")))
            return
        self._count(entry, principle, used)

    def _count(self, entry: Entry, principle: Principle, used: list[str]) -> None:
        self.principles.append(principle)
        self._seen |= dict.fromkeys(_words(principle), principle.id)
        self.mapped.update(entry.keys)
        self.unused.update(entry.unused)
        self.filled.update(used)

    def _text(self, text: str) -> str:
        """A text without its wrappers."""
        text = NUMBER.sub("", text.replace("\r\n", "\n").replace("\r", "\n").strip())
        for pattern in WRAPPERS:
            if found := pattern.search(text):
                text = text[: found.start()] + text[found.end():]
                self.wrappers[found[0].strip()] += 1
        return text.strip()

    def _repeated(self, texts: dict[str, str]) -> str:
        """Whether an earlier principle has one of the requests: drawn twice, it would only weigh twice."""
        twice = [self._seen[key] for key in _words_of(texts) if key in self._seen]
        return f"says the same as {twice[0]!r}" if twice else ""

    def _facts(self, entry: Entry, texts: dict[str, str]) -> dict[str, Any]:
        name = " ".join(unicodedata.normalize("NFC", entry.name).split())
        own = "id" in dict(entry.keys).values()  # a constitution file of this project, for one, stays what it is
        source = entry.source or ("" if own else f"{self.source}: {entry.where}")
        facts: dict[str, Any] = {"id": self._id(entry, texts), "tags": tuple(dict.fromkeys(filter(None, map(
            slug_of, entry.tags))))}
        facts |= {"name": name} if name else {}
        facts |= {"source": source} if source and not fault_of(source) else {}
        if entry.weight:
            facts["weight"] = entry.weight
        facts |= {"priority": int(entry.priority)} if entry.priority.isdecimal() else {}
        facts |= {name: value for name in (*REWARDS, "why") if (value := getattr(entry, name))}
        return facts

    def _id(self, entry: Entry, texts: dict[str, str]) -> str:
        if entry.id in self.clauses:
            return entry.id
        first = next((t for t in (entry.text, *texts.values()) if t), "")
        words = slug_of(LEAD.sub("", first))[: LONGEST_ID + 1]
        made = words if len(words) <= LONGEST_ID else words.rpartition("-")[0] or words[:LONGEST_ID]
        base = slug_of(entry.id) or slug_of(entry.name)[:LONGEST_ID].strip("-") or made or "principle"
        base = f"principle-{base}" if base.isdigit() else base
        taken = {p.id for p in self.principles}
        return next(i for n in range(1, len(taken) + 2) if (i := base if n == 1 else f"{base}-{n}") not in taken)


def _fault(entry: Entry, texts: dict[str, str]) -> str:
    """Why an entry cannot be a principle."""
    for text in (*texts.values(), entry.text, entry.rubric, entry.name, entry.source, entry.why):
        if fault := fault_of(text):
            return fault
    if not any((*texts.values(), entry.rubric, entry.check)):
        return "has no request, and none is filled from its text"
    if entry.text.isascii() and len(entry.text.split()) == 1 and not entry.keys:
        return f"is no sentence: {short(entry.text)}"
    return ""


def fault_of(text: str) -> str:
    """Why a text may not be in a constitution file."""
    if marker := MARKER.search(text):
        return f"holds {short(marker[0])}, a control marker of chat models"
    if len(text) > LONGEST:
        return f"has more than {LONGEST:,} characters"
    return unsafe(text, as_name=False) or ""


def _words(principle: Principle) -> list[tuple[str, str]]:
    return _words_of({f: getattr(principle, f) or "" for f in REQUESTS})


def _words_of(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Each use and the words of its request, as lint compares them."""
    return [(use, " ".join(utils.default_process(texts[use]).split())) for use in USES if texts[use]]

