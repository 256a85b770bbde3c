"""What changed between two constitution versions, for Dagster, for the terminal and for programs.

Guarantees: the markdown keeps to its limit, its code block always closes, it counts what it leaves out, and nothing
in a text is live; the terminal shows every change in full, with what cannot be seen written out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cai_assets.constitution.diff import Change, Diff, ShotChange, TextChange, Word
from cai_assets.constitution.digest import digest
from cai_assets.constitution.model import Constitution
from cai_assets.plan.touches import Touch, together, touches
from cai_assets.reports.escape import fenced, shorten, visible
from cai_assets.reports.text.tables import SHOWN
from cai_assets.reports.text.terminal import terminal_table

WIDTH = 100
CONTEXT = 6  # unchanged words kept on each side of a change
LINES = (40, 16, 12, 8, 6, 5, 4, 3, 2, 1, 0)  # a change's lines below its heading: the most that fit the limit
SIGNS = {"equal": "  ", "delete": "- ", "insert": "+ "}
STYLES = {"equal": "dim", "delete": "red", "insert": "green"}
MARKS = {"equal": ("", ""), "delete": ("[-", "-]"), "insert": ("{+", "+}")}  # as in git: without colors too


def markdown(diff: Diff, limit: int = SHOWN) -> str:
    """A ``diff`` code block, at most ``limit`` (300 or more) characters: what touches most comes first.

    Dagster colors such blocks, and shows them without a click while they are under 1,000 characters.
    """
    if diff.empty:
        return _counts(diff)
    head, changes, cosmetic = f"{_counts(diff)}\n\n", _by_effect(diff), list(_cosmetic(diff))
    headings = [*(_heading(c) for c in changes), *cosmetic]
    if len(head + _fence(headings)) > limit:
        return _headings_only(head, headings, limit)
    blocks = [[_heading(c), *_lines(c)] for c in changes] + [[line] for line in cosmetic]
    texts = (head + _fence([line for b in blocks for line in _cut(b, lines)]) for lines in LINES)
    return next(text for text in texts if len(text) <= limit)


def terminal(diff: Diff, touched: Sequence[Touch]) -> RenderableType:
    """Every change, word by word and colored, then what each touches. ``touched``: from ``diff.touches``."""
    parts: list[RenderableType] = [Text(f"{_title(diff.before)} → {_title(diff.after)}: {_counts(diff)}")]
    groups = [(c.label, c.texts) for c in _by_effect(diff)]
    if diff.cosmetic:
        groups.append(("cosmetic: no effect", tuple(
            TextChange(f"{c.principle or 'constitution'} {c.field}", c.before, c.after) for c in diff.cosmetic)))
    for label, texts in groups:
        parts.append(Text(f"\n{label}", style="bold"))
        parts += [Padding(_words(t), (0, 0, 0, 2), expand=False) for t in texts]
    if touched:
        parts += [Text(""), touch_table(touched)]
    return Group(*parts)


def touch_table(touched: Sequence[Touch]) -> Table:
    """What each change touches: expected shares, at most. What an earlier change said is only named."""
    table = terminal_table("change", "asset", "chains", "rows", "why", right={"chains", "rows"},
                           title="affected, at most (expected shares)")
    said: set[tuple[object, ...]] = set()
    for change, group in groupby(touched, key=lambda t: t.change):
        mine = list(group)
        new = [t for t in mine if t[1:] not in said]
        for n, t in enumerate(new):
            shares = ("" if x is None else f"{x:.1%}" for x in (t.chains, t.rows))
            table.add_row(Text("" if n else change), t.asset, *shares, Text(t.reason))
        if again := [t.asset for t in mine if t[1:] in said]:
            table.add_row(Text("" if new else change), "", "", "", Text(f"as above: {', '.join(again)}"))
        said |= {t[1:] for t in mine}
        table.add_section()
    return table


def to_json(diff: Diff, touched: Sequence[Touch]) -> dict[str, Any]:
    """Everything as plain JSON. Word operations are ``[op, text]``; shares are from 0 to 1, or null."""
    return {
        "before": _identity(diff.before), "after": _identity(diff.after), "unchanged": diff.unchanged,
        "changes": [{"kind": c.kind, "id": c.id, "texts": [_text_json(t) for t in c.texts],
                     "weight": [None if p is None else p.weight for p in (c.before, c.after)]} for c in diff.changes],
        "few_shots": [{"use": s.use, "examples": [len(s.before), len(s.after)],
                       "texts": [_text_json(t) for t in s.texts]} for s in diff.shots],
        "cosmetic": [c._asdict() for c in diff.cosmetic],
        "touches": [t._asdict() for t in touched],
    }


def _by_effect(diff: Diff) -> list[Change | ShotChange]:
    """Counting changes, those that touch most of the supervised half first, then of the labels, then of judgments."""
    share = {(t.change, t.asset): t.rows or 0.0 for t in touches(diff)}

    def effect(change: Change | ShotChange) -> tuple[float, ...]:
        return tuple(-share.get((change.label, a), 0.0) for a in ("revisions", "preference_pairs", "evaluation"))

    return sorted([*diff.shots, *diff.changes], key=effect)


def _counts(diff: Diff) -> str:
    if diff.empty:
        return "no change"
    kinds = Counter(c.kind for c in diff.changes)
    counts = [f"{n} {kind}" for kind, n in kinds.items()] + [c.label for c in diff.shots]
    counts += [f"{diff.unchanged} unchanged", *([f"{len(diff.cosmetic)} cosmetic"] if diff.cosmetic else [])]
    return ", ".join(counts) + ("" if together(diff) else ": nothing to recompute")


def _heading(change: Change | ShotChange) -> str:
    return shorten(f"@@ {change.label} @@", WIDTH)


def _headings_only(head: str, headings: Sequence[str], limit: int) -> str:
    texts = (head + _fence([*headings[:n], f"… and {len(headings) - n} more changes: cai diff shows all"])
             for n in range(len(headings) - 1, -1, -1))
    return next((text for text in texts if len(text) <= limit), head.strip())


def _cut(block: Sequence[str], lines: int) -> list[str]:
    """A block's heading and at most ``lines`` more lines, with a mark where some are missing."""
    return [*block[: lines + 1], *(["  …"] if len(block) > lines + 1 and lines else [])]


def _lines(change: Change | ShotChange) -> Iterator[str]:
    """Words taken out and put in, under the name of their text if there are several texts."""
    for text in change.texts:
        if len(change.texts) > 1:
            yield shorten(f"{_sign(text)}{text.field}:", WIDTH)
        for line in _word_lines(text.words):
            yield shorten(line, WIDTH)


def _sign(text: TextChange) -> str:
    return SIGNS["insert" if text.before is None else "delete" if text.after is None else "equal"]


def _word_lines(words: Sequence[Word]) -> Iterator[str]:
    for n, (op, text) in enumerate(words):
        shown = visible(text).split() or ["¶"]
        if op == "equal":
            shown = _context(shown, first=n == 0, last=n == len(words) - 1)
        for line in wrap(" ".join(shown), WIDTH - 2, break_on_hyphens=False):
            yield SIGNS[op] + line


def _context(words: list[str], *, first: bool, last: bool) -> list[str]:
    head, tail = 0 if first else CONTEXT, 0 if last else CONTEXT
    if len(words) <= head + tail:
        return words
    return [*words[:head], "…", *words[len(words) - tail :]]


def _cosmetic(diff: Diff) -> Iterable[str]:
    for c in diff.cosmetic:
        yield shorten(f"# cosmetic: {c.principle or 'constitution'}: {c.field}", WIDTH)


def _fence(lines: Sequence[str]) -> str:
    return fenced("\n".join(lines), "diff")


def _words(change: TextChange) -> Text:
    line = Text(f"{change.field}: ")
    for op, text in change.words:
        body = text.rstrip()
        line.append(visible(body).join(MARKS[op]), style=STYLES[op])
        line.append(visible(text[len(body):]))
    line.rstrip()
    return line


def _title(c: Constitution) -> str:
    return f"{c.name} {c.version} ({digest(c).partition(':')[2][:8]})"


def _identity(c: Constitution) -> dict[str, str]:
    return {"name": c.name, "version": c.version, "digest": digest(c)}


def _text_json(text: TextChange) -> dict[str, Any]:
    return {"field": text.field, "before": text.before, "after": text.after, "words": [list(w) for w in text.words]}
