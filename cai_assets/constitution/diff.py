"""What changed between two constitutions.

Guarantees: pure; every difference that counts (``digest.content``) is in ``changes`` or ``shots``, every other one
in ``cosmetic``; two constitutions are equal exactly if their diff is empty. ``plan/touches.py`` says what the
changes do to the assets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, NamedTuple

from cai_assets.constitution.digest import RANKED, REQUESTS, REWARDS
from cai_assets.constitution.model import Constitution, PreferenceShot, Principle, RevisionShot, Use

ChangeKind = Literal["added", "removed", "edited", "re-weighted"]
Shot = RevisionShot | PreferenceShot
Shots = tuple[Shot, ...]
BLOCKS: dict[Use, Literal["revision", "preference"]] = {"critique": "revision", "preference": "preference"}
FIELDS = (*(request for requests in REQUESTS.values() for request in requests), *REWARDS, *RANKED)
COSMETIC = ("name", "tags", "source")
OF_CLAUSE = ("number", "text", "examples", "basis", "status")  # whose requests say what of it counts
MAX_PAIRS = 1_000_000  # the comparison of words is quadratic

class Word(NamedTuple):
    """A run of words, each with the whitespace after it."""

    op: Literal["equal", "delete", "insert"]
    text: str


class TextChange(NamedTuple):
    """One text that changed; None where there is no such text."""

    field: str
    before: str | None
    after: str | None

    @property
    def words(self) -> tuple[Word, ...]:
        return word_ops(self.before or "", self.after or "")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one principle. An edited and reweighted principle has two, each considered alone."""

    kind: ChangeKind
    id: str
    before: Principle | None
    after: Principle | None

    @property
    def label(self) -> str:
        weights = f" {self.before.weight:g} → {self.after.weight:g}" if self.before and self.after else ""
        return f"{self.kind} {self.id}{weights if self.kind == 're-weighted' else ''}"

    @property
    def texts(self) -> tuple[TextChange, ...]:
        """The requests that differ; of an added or removed principle all, and what it has that is not usual."""
        alone = self.before is None or self.after is None
        fields = (*FIELDS, "weight") if alone else FIELDS
        pairs = (TextChange(f, _said(self.before, f, alone=alone), _said(self.after, f, alone=alone)) for f in fields)
        return tuple(pair for pair in pairs if pair.before != pair.after)


@dataclass(frozen=True, slots=True)
class ShotChange:
    """A changed block of few-shot examples. Their order matters."""

    use: Use
    before: Shots
    after: Shots

    @property
    def label(self) -> str:
        return f"few-shot examples for {BLOCKS[self.use]}"

    @property
    def texts(self) -> tuple[TextChange, ...]:
        """Texts that differ, by the number of their example (after, or before if it was removed)."""
        return tuple(t for op, i, i2, j, j2 in opcodes(self.before, self.after) if op != "equal"
                     for n, (old, new) in enumerate(zip_longest(self.before[i:i2], self.after[j:j2]), 1)
                     for t in _shot_texts(old, new, (i if new is None else j) + n))


class Cosmetic(NamedTuple):
    """A difference that touches nothing. ``principle`` is an id, or None for the constitution itself."""

    principle: str | None
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Diff:
    """``unchanged``: principles in both that have no change that counts."""

    before: Constitution
    after: Constitution
    changes: tuple[Change, ...]
    shots: tuple[ShotChange, ...]
    cosmetic: tuple[Cosmetic, ...]
    unchanged: int

    @property
    def empty(self) -> bool:
        return not (self.changes or self.shots or self.cosmetic)


def diff(before: Constitution, after: Constitution) -> Diff:
    """Compare two constitutions principle by principle, matched by id; changes in file order, removals last."""
    old = {p.id: p for p in before.principles}
    new = {p.id: p for p in after.principles}
    changes = [c for p in after.principles for c in _changes(old.get(p.id), p)]
    changes += [Change("removed", p.id, p, None) for p in before.principles if p.id not in new]
    pairs: list[tuple[Use, Shots, Shots]] = [
        ("critique", before.few_shots.revision, after.few_shots.revision),
        ("preference", before.few_shots.preference, after.few_shots.preference)]
    return Diff(before, after, tuple(changes), tuple(ShotChange(*p) for p in pairs if p[1] != p[2]),
                tuple(_cosmetic(before, after)), len(old.keys() & new.keys() - {c.id for c in changes}))


def applied(c: Constitution, change: Change | ShotChange) -> Constitution:
    """``c`` with this change. It may have no principle left."""
    if isinstance(change, ShotChange):
        shots = c.few_shots.model_copy(update={BLOCKS[change.use]: change.after})
        return c.model_copy(update={"few_shots": shots})
    if change.after is None:
        changed = [p for p in c.principles if p.id != change.id]
    elif change.before is None:
        changed = [*c.principles, change.after]
    else:
        fields = FIELDS if change.kind == "edited" else ("weight",)
        update = {f: getattr(change.after, f) for f in fields}
        changed = [p.model_copy(update=update) if p.id == change.id else p for p in c.principles]
    return c.model_copy(update={"principles": tuple(changed)})


def word_ops(before: str, after: str) -> tuple[Word, ...]:
    """Word-level edit script: without 'insert' it reads ``before``, without 'delete' ``after``, ends stripped."""
    old, new = (re.findall(r"\s*\S+\s*", f"{text} ") for text in (before, after))
    if len(old) * len(new) > MAX_PAIRS:
        return (Word("delete", "".join(old)), Word("insert", "".join(new)))
    ops: list[Word] = []
    for op, i, i2, j, j2 in opcodes(old, new):
        if op == "equal":
            ops.append(Word("equal", "".join(old[i:i2])))
            continue
        ops += [Word("delete", "".join(old[i:i2]))] if i < i2 else []
        ops += [Word("insert", "".join(new[j:j2]))] if j < j2 else []
    return tuple(ops)


def opcodes(old: Sequence[str | Shot], new: Sequence[str | Shot]) -> Sequence[tuple[str, int, int, int, int]]:
    """The edit script between two sequences, as ``difflib`` writes it: the one behind every word diff that is shown."""
    return difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()


def _changes(old: Principle | None, new: Principle) -> Iterator[Change]:
    if old is None:
        yield Change("added", new.id, None, new)
        return
    texts = {f: getattr(new, f) for f in FIELDS if getattr(new, f) != getattr(old, f)}
    if texts:
        yield Change("edited", old.id, old, old.model_copy(update=texts))
    if new.weight != old.weight:
        yield Change("re-weighted", old.id, old, old.model_copy(update={"weight": new.weight}))


def _cosmetic(before: Constitution, after: Constitution) -> Iterator[Cosmetic]:
    for field in ("name", "version", "description", "fill", "parent"):
        if getattr(before, field) != getattr(after, field):
            yield Cosmetic(None, field, getattr(before, field) or "", getattr(after, field) or "")
    yield from _document(before, after)
    old = {p.id: p for p in before.principles}
    new = {p.id: p for p in after.principles}
    orders = [i for i in old if i in new], [i for i in new if i in old]
    if orders[0] != orders[1]:
        yield Cosmetic(None, "order", ", ".join(orders[0]), ", ".join(orders[1]))
    for i in orders[1]:
        for field in COSMETIC:
            texts = [_text(getattr(p, field)) for p in (old[i], new[i])]
            if texts[0] != texts[1]:
                yield Cosmetic(i, field, *texts)


def _document(before: Constitution, after: Constitution) -> Iterator[Cosmetic]:
    """What differs in the document alone: its headings, and what of a clause is in no principle."""
    heads = [{a.id: a.model_dump(exclude={"clauses"}) for a in c.articles} for c in (before, after)]
    for i in dict.fromkeys([*heads[0], *heads[1]]):
        old, new = (h.get(i, {}) for h in heads)
        for field in dict.fromkeys([*old, *new]):
            if old.get(field) != new.get(field):
                yield Cosmetic(f"article {i}", field, str(old.get(field) or ""), str(new.get(field) or ""))
    clauses = [{c.id: (c, a.id) for a in x.articles for c in a.clauses} for x in (before, after)]
    for i in dict.fromkeys([*clauses[0], *clauses[1]]):
        texts = [dict.fromkeys((*OF_CLAUSE, "article"), "") if i not in own else
                 {f: _text(getattr(own[i][0], f)) for f in OF_CLAUSE} | {"article": own[i][1]} for own in clauses]
        yield from (Cosmetic(i, f, old, texts[1][f]) for f, old in texts[0].items() if old != texts[1][f])
    orders = [[i for i in own if i in clauses[0] and i in clauses[1]] for own in clauses]
    if orders[0] != orders[1]:
        yield Cosmetic(None, "order of clauses", ", ".join(orders[0]), ", ".join(orders[1]))


def _said(principle: Principle | None, field: str, *, alone: bool) -> str | None:
    """A request as it is; a check, a gate, and a number in words. ``alone``: what is as usual goes without saying."""
    value = getattr(principle, field, None)
    if alone and value == Principle.model_fields[field].default:
        return None
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value) if value else None


def _text(value: str | tuple[str, ...] | None) -> str:
    return value or "" if isinstance(value, str | None) else ", ".join(value)


def _shot_texts(old: Shot | None, new: Shot | None, number: int) -> Iterator[TextChange]:
    for field in dict(new or old or ()):
        texts = getattr(old, field, None), getattr(new, field, None)
        if texts[0] != texts[1]:
            yield TextChange(f"example {number} {field}", *texts)
