"""What the authors of clause documents write beside a clause: its number, its status, and labeled remarks.

Numbers: ``4.2``, ``A.3``, ``4.2.a``, in a heading, in brackets, bold, or at the beginning of a paragraph or an item.
Status: ``[New]``, ``[Extended]``, ``[Deferred]``. Remarks: ``Why: ...``, ``*Charter basis:* ...``,
``<!-- Source: ... -->``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DOTTED = r"(?:[A-Za-z]|\d{1,3})(?:\.\d{1,3})+(?:\.?[a-z](?!\w)|\([a-z]\))?"  # 4.2, 4.2.1, 4.2.a, 4.2a, 4.2(a)
NUMBER = re.compile(rf"^(?:(?:clause|section|principle|rule|value)\s+|§\s*)?[\[(]?({DOTTED})[\])]?[.:)]?(?:\s+|$)",
                    re.IGNORECASE)
HEAD = re.compile(r"^(?:(?:article|art\.|section|chapter|part|domain|title|principle|value)\s+)?"
                  r"(\d{1,3}|[A-Z]|[IVX]{1,5})(?:[.:)]|\s+[-–—:.]|(?=\s*$))\s*", re.IGNORECASE)
INSIDE = re.compile(rf"\s*[\[(]({DOTTED})[\])]")
IDS = re.compile(rf"(?<![\w.]){DOTTED}(?![\w.]*\w)")
RANGE = re.compile(r"(?<![\w.])((?:[A-Za-z]|\d{1,3})\.)(\d{1,3})\s*[–-]\s*(?:\1)?(\d{1,3})(?![\w.]*\d)")
STATUS = re.compile(r"\s*[\[(](new|extended|deferred|active|draft|proposed)[\])]\s*", re.IGNORECASE)
GIVEN_ID = re.compile(r"\s*\{#([a-z0-9][a-z0-9.-]{0,62})\}\s*$")
LABELS = {
    "why": r"why|reasons?|reasoning|rationale|motivation|explanation",
    "examples": r"examples?|e\.g\.",
    "basis": r"(?:\w+ )?basis|based on|derived from",
    "source": r"sources?|origin",
    "status": r"status", "priority": r"priority|tier", "id": r"id",
    "": r"grounding|notes?|comments?|new beyond [^:]{1,40}|see also|open questions?|todo",
}
LABEL = re.compile("^(?:" + "|".join(f"(?P<x{i}>{words})" for i, words in enumerate(LABELS.values()))
                   + r")\s*:\s*", re.IGNORECASE)
NO_BASIS = re.compile(r"^no (?:\w+ )?basis\b", re.IGNORECASE)
STATUSES = {"new": "new", "proposed": "new", "deferred": "deferred"}  # the others are in force


class Remark(NamedTuple):
    """A labeled text; ``field`` is empty where it has no place in a constitution."""

    field: str
    text: str


def remark(line: str) -> Remark | None:
    """What a line is labeled as; None if it has no label."""
    if NO_BASIS.match(line):
        return Remark("status", "new")
    found = LABEL.match(line)
    if not found:
        return None
    field = next(name for i, name in enumerate(LABELS) if found[f"x{i}"])
    return Remark(field, line[found.end():].strip())


def numbered(text: str) -> tuple[str, str]:
    """The dotted number at the beginning of a text, or nothing, and the rest."""
    found = NUMBER.match(text)
    return (found[1], text[found.end():].strip()) if found else ("", text)


def headed(text: str) -> tuple[str, str]:
    """The plain number of an article's heading, or nothing, and its title."""
    found = HEAD.match(text)
    return (found[1], text[found.end():].strip()) if found else ("", text)


def marked(text: str) -> tuple[str, str, str]:
    """A heading or clause without its marks; its status, or nothing; its given id, or nothing."""
    given = GIVEN_ID.search(text)
    text = GIVEN_ID.sub("", text)
    found = STATUS.search(text)
    return STATUS.sub(" ", text).strip(), found[1].casefold() if found else "", given[1] if given else ""


def bases(text: str) -> list[str]:
    """The ids of a parent's clauses that a remark names, ranges written out; where it names none, the words it quotes.
    """
    spread = RANGE.sub(lambda m: " ".join(f"{m[1]}{n}" for n in range(int(m[2]), min(int(m[3]), int(m[2]) + 99) + 1)),
                       text)
    ids = [i for i in IDS.findall(spread) if "://" not in i]
    quotes = re.findall(r"[\"“]([^\"”]{8,})[\"”]", text)
    return list(dict.fromkeys(i.lower() for i in ids)) or quotes or [text]
