"""What a revision changed, for people to read in Dagster.

Guarantees: the markdown stays within its limit, its code block always closes, and nothing in a text is live.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from cai_assets.constitution.diff import opcodes
from cai_assets.reports.escape import fenced, shorten, visible
from cai_assets.reports.text.tables import SHOWN, table

WIDTH = 100
CONTEXT = 12  # unchanged words kept on each side of a change
MAX_WORDS = 1000  # the comparison is quadratic
CELLS = (160, 120, 90, 70, 55, 40, 30, 20, 12)
_TOKEN = re.compile(r"\n+|[^\s]+")
_CUT = "  … (cut)"


def word_diff(before: str, after: str, *, limit: int = SHOWN) -> str:
    """A ``diff`` code block of the words taken out ('-') and put in ('+'), at most ``limit`` characters long.

    Dagster colors such blocks, and shows them without a click while they are under 1,000 characters.
    """
    old, new = _tokens(before), _tokens(after)
    if old == new:
        return "_No word changed._"
    lines: list[str] = []
    for line in _lines(old, new):
        if len(fenced("\n".join([*lines, line, _CUT]), "diff")) > limit:
            lines.append(_CUT)
            break
        lines.append(line)
    return fenced("\n".join(lines), "diff")


def preview_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = (), *, limit: int = SHOWN) -> str:
    """A markdown table of ``rows``; each cell is one line, cut as far as the table needs to keep to ``limit``.

    Cells keep at least 12 characters, so a table of many rows may be longer.
    """
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    if not rows or not names:
        return "_No rows._"
    tables = [table(names, ([row.get(name) for name in names] for row in rows), cell=cell) for cell in CELLS]
    return next((t for t in tables if len(t) <= limit), tables[-1])


def _tokens(text: str) -> list[str]:
    tokens = ["\n" if t.startswith("\n") else t for t in _TOKEN.findall(visible(text))]
    return tokens if len(tokens) <= MAX_WORDS else [*tokens[:MAX_WORDS], "…"]


def _lines(old: list[str], new: list[str]) -> Iterator[str]:
    for op, i1, i2, j1, j2 in opcodes(old, new):
        if op == "equal":
            yield from _prefixed("  ", _context(old[i1:i2], first=i1 == j1 == 0, last=(i2, j2) == (len(old), len(new))))
        else:
            yield from _prefixed("- ", old[i1:i2])
            yield from _prefixed("+ ", new[j1:j2])


def _context(words: list[str], *, first: bool, last: bool) -> list[str]:
    head = 0 if first else CONTEXT
    tail = 0 if last else CONTEXT
    if len(words) <= head + tail:
        return words
    return [*words[:head], "…", *words[len(words) - tail :]]


def _prefixed(prefix: str, words: list[str]) -> Iterator[str]:
    for paragraph in " ".join(words).split("\n"):
        for line in wrap(paragraph.strip(), WIDTH, break_on_hyphens=False):
            yield prefix + shorten(line, WIDTH)
    if words and set(words) == {"\n"}:
        yield prefix + "¶"
