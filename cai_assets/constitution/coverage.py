"""How far a constitution covers one that it derives from: each sentence of the parent, and each clause of the child.

Guarantees: pure, and no model is asked; every sentence of the parent is mapped to clauses, deferred, or missing; every
clause of the child that is in the parent's words, names its basis there, or has the number of a clause there is mapped;
and nothing is called reworded or renumbered that reads and counts as in the parent. Texts are compared without case,
punctuation and markup; two say the same in other words if they share most of their stems, which finds edits, not
paraphrases: those are known by their number or their ``basis``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rapidfuzz import fuzz, utils

from cai_assets.constitution.model import Constitution, Status

State = Literal["mapped", "deferred", "missing"]
Kind = Literal["missing", "orphan", "duplicate", "no such basis", "reworded", "renumbered"]
BREAKS: tuple[Kind, ...] = ("missing", "orphan", "duplicate", "no such basis")  # the others change no coverage
SENTENCE = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"”’')\]]))\s+(?=[\"“‘'(\[]*[^\Wa-z_])|\n+")
SHORT_FORM = re.compile(r"\b(?:vs|cf|dr|mr|mrs|ms|st|prof|approx|incl|(?:[a-z]\.)+[a-z])\.$", re.IGNORECASE)
OF_A_NUMBER = re.compile(r"\b(?:art|arts|ch|cl|fig|no|nos|p|par|para|paras|pp|reg|sec|sect|vol)\.$", re.IGNORECASE)
A_NUMBER = re.compile(r"[(\[]*(?:\d|[IVXLC]{2,}\b)")
NUMBERED = re.compile(r"(?:[a-z]|\d+)(?:\.\d+)*(?:\.?[a-z]|\([a-z]\))?", re.IGNORECASE)
NEAR, ALIKE, SHARED = 88.0, 75.0, 0.5  # per cent of characters: the same, reworded; share of common stems
STEM, SHORT_WORD = 5, 4  # letters


class Sentence(NamedTuple):
    """A sentence of the parent, the number of its clause there, and those of the child's clauses that carry it."""

    clause: str
    text: str
    state: State
    clauses: tuple[str, ...]


class Finding(NamedTuple):
    """What is not as in the parent. ``clause``: its number where it stands, in the parent if it is missing."""

    kind: Kind
    clause: str
    message: str


class Coverage(NamedTuple):
    """Every sentence of the parent, and what is to be said, in the order of the documents."""

    parent: str
    child: str
    sentences: tuple[Sentence, ...]
    findings: tuple[Finding, ...]

    def count(self, state: State) -> int:
        return sum(s.state == state for s in self.sentences)

    def fails(self, *, strict: bool = False) -> bool:
        """Whether something is missing, orphaned or there twice; ``strict``: or is not in the words of the parent."""
        return any(strict or f.kind in BREAKS for f in self.findings)

    def __str__(self) -> str:
        kinds = [f"{n} {kind}" for kind in (*BREAKS[1:], "reworded", "renumbered")
                 if (n := sum(f.kind == kind for f in self.findings))]
        return (f"{len(self.sentences)} sentences of {self.parent}: {self.count('mapped')} mapped, "
                f"{self.count('deferred')} deferred, {self.count('missing')} missing in {self.child}"
                + (f"; clauses: {', '.join(kinds)}" if kinds else ""))


@dataclass(eq=False)
class _Unit:
    """A clause with what is known of it. ``mates``: the clauses of the other document that belong to it."""

    id: str
    label: str
    text: str
    basis: tuple[str, ...] = ()
    status: Status = "active"
    mates: list[_Unit] = field(default_factory=list)
    declared: bool = False
    dangling: list[str] = field(default_factory=list)
    twin: _Unit | None = None

    def __post_init__(self) -> None:
        self.sentences = list(sentences(self.text))
        self.keys = [_words(s) for s in self.sentences]
        self.words = _words(self.text)
        self.stems = _stems(self.words) or set(self.words.split())

    def called(self, name: str) -> bool:
        return name.casefold() in {self.id.casefold(), self.label.casefold()}

    def same_number(self, other: _Unit) -> bool:
        return self.called(other.label) or self.called(other.id)


def coverage(parent: Constitution, child: Constitution) -> Coverage:
    """Map each sentence of the parent to clauses of the child."""
    above, below = _units(parent), _units(child)
    _by_basis(above, below)
    _by_sentence(above, below)
    _duplicates(below)
    _by_likeness(above, below)
    told = tuple(_sentence(s, key, unit) for unit in above for s, key in zip(unit.sentences, unit.keys, strict=True))
    missing = [Finding("missing", s.clause, f"no clause says: {s.text}") for s in told if s.state == "missing"]
    found = [*missing, *(f for unit in below for f in _of_clause(unit))]
    return Coverage(f"{parent.name} {parent.version}", f"{child.name} {child.version}", told, tuple(found))


def sentences(text: str) -> Iterator[str]:
    """The sentences of a clause; each item of a list in it is one."""
    held = ""
    for part in (p.strip().removeprefix("- ") for p in SENTENCE.split(text)):
        if held and not (SHORT_FORM.search(held) or (OF_A_NUMBER.search(held) and A_NUMBER.match(part))):
            yield held
            held = ""
        held = f"{held} {part}".strip()
    if held:
        yield held


def _units(c: Constitution) -> list[_Unit]:
    """Clauses; of a constitution that is no document, its principles by the request that says most."""
    clauses = [_Unit(x.id, x.label, x.text, x.basis, x.status) for x in c.clauses]
    known = {x.id for x in c.clauses}
    texts = [(p.id, p.preference or p.critique or p.evaluation or p.rubric or str(p.check)) for p in c.principles
             if p.id not in known]
    return [*clauses, *(_Unit(i, i, text) for i, text in texts)]


def _by_basis(above: Sequence[_Unit], below: Sequence[_Unit]) -> None:
    """Mates by what a clause says that it rests on; what of that is not there is remembered."""
    for unit in below:
        for basis in unit.basis:
            found = [u for u in above if u.called(basis)] or [u for u in above if _quoted(basis, u)]
            for one in found:
                _join(one, unit)
                unit.declared = True
            if not found:
                unit.dangling.append(basis)


def _quoted(basis: str, unit: _Unit) -> bool:
    words = _words(basis)
    return len(words.split()) > 1 and f" {words} " in f" {unit.words} "


def _by_sentence(above: Sequence[_Unit], below: Sequence[_Unit]) -> None:
    """Mates by a whole text first, the same number before another one, each once; then by single sentences."""
    free = [u for u in below if not u.mates]
    for same in (True, False):
        for one in above:
            unit = next((u for u in free if u.words == one.words and u.same_number(one) == same), None)
            if unit and not any(m.words == one.words for m in one.mates):
                _join(one, unit)
                free.remove(unit)
    texts = {u.words for u in below if u.mates}
    for unit in (u for u in free if u.words not in texts):
        for one in above:
            if set(unit.keys) & set(one.keys):
                _join(one, unit)


def _duplicates(below: Sequence[_Unit]) -> None:
    """Of clauses that say the same, that with a mate is the first; with two that have one, both are the parent's."""
    order = sorted(below, key=lambda u: not u.mates)
    for n, unit in enumerate(order):
        if not unit.mates or unit.declared:
            unit.twin = next((u for u in order[:n] if not u.twin and _near(u, unit)), None)


def _by_likeness(above: Sequence[_Unit], below: Sequence[_Unit]) -> None:
    """Mates of what is left on both sides: the likest first, then the same number."""
    left = [u for u in below if not u.mates and not u.twin]
    alone = [u for u in above if not u.mates]
    pairs = [(_likeness(p, c), p.same_number(c), p, c) for p in alone for c in left]
    for like, same, one, unit in sorted(pairs, key=lambda x: (x[0] > 0, x[0] + x[1] * 0.1, x[1]), reverse=True):
        if (like or same) and not one.mates and not unit.mates:
            _join(one, unit)


def _sentence(text: str, key: str, unit: _Unit) -> Sentence:
    carried = [m for m in unit.mates if key in m.keys] or [m for m in unit.mates if _carries(m, key, unit)]
    put_off = all(m.status == "deferred" for m in carried)
    state: State = "missing" if not carried else "deferred" if put_off else "mapped"
    return Sentence(unit.label, text, state, tuple(m.label for m in carried))


def _carries(mate: _Unit, key: str, unit: _Unit) -> bool:
    """Whether a clause in other words says a sentence: as its basis is declared, in its words, or by one to spare."""
    known = {k for m in mate.mates for k in m.keys}
    spare = [k for k in mate.keys if k not in known]
    stems = _stems(key)
    return mate.declared or bool(spare) or (bool(stems) and len(stems & mate.stems) >= SHARED * len(stems)
                                            and len(mate.keys) < len(unit.keys))


def _of_clause(unit: _Unit) -> Iterator[Finding]:
    said = f"its basis {', '.join(map(repr, unit.dangling))} is not in the parent"
    if unit.twin:
        yield Finding("duplicate", unit.label, f"says the same as {unit.twin.label}: {unit.text}")
    elif not unit.mates:
        if unit.status != "new":
            why = said if unit.dangling else "rests on nothing in the parent"
            yield Finding("orphan", unit.label, f"{why}: {unit.text}")
    elif len(unit.mates) == 1 and len(unit.mates[0].mates) == 1:
        yield from _against(unit, unit.mates[0])
    else:
        known = {k for m in unit.mates for k in m.keys}
        if not unit.declared and any(k not in known for k in unit.keys):
            mates = ", ".join(m.label for m in unit.mates)
            yield Finding("reworded", unit.label, f"is not in the words of {mates}: {unit.text}")
    if unit.dangling and unit.mates and not unit.twin:
        yield Finding("no such basis", unit.label, said)


def _against(unit: _Unit, one: _Unit) -> Iterator[Finding]:
    """A clause and the one clause of the parent that it belongs to."""
    alike = unit.words == one.words or bool(_likeness(one, unit)) or bool(set(unit.keys) & set(one.keys))
    if unit.words != one.words and (alike or not unit.declared or unit.same_number(one)):
        yield Finding("reworded", unit.label, f"was {one.text!r}, is {unit.text!r}")
    if alike and unit.label.casefold() != one.label.casefold() and all(
            NUMBERED.fullmatch(u.label) for u in (unit, one)):
        yield Finding("renumbered", unit.label, f"was {one.label}: {unit.text}")


def _join(one: _Unit, unit: _Unit) -> None:
    if unit not in one.mates:
        one.mates.append(unit)
        unit.mates.append(one)


def _near(a: _Unit, b: _Unit) -> bool:
    return a.words == b.words or fuzz.token_sort_ratio(a.words, b.words) >= NEAR


def _likeness(a: _Unit, b: _Unit) -> float:
    """From 0 to 1; 0 for texts that have no more in common than any two."""
    share = 2 * len(a.stems & b.stems) / (len(a.stems) + len(b.stems))
    ratio = fuzz.ratio(a.words, b.words)
    return max(share, ratio / 100) if share >= SHARED or ratio >= ALIKE else 0.0


def _stems(words: str) -> set[str]:
    return {w[:STEM] for w in words.split() if len(w) >= SHORT_WORD}


def _words(text: str) -> str:
    return " ".join(utils.default_process(text).split())


def as_dict(found: Coverage) -> dict[str, object]:
    """Everything as plain JSON."""
    return {"parent": found.parent, "child": found.child, "covered": not found.fails(),
            "counts": {state: found.count(state) for state in ("mapped", "deferred", "missing")},
            "sentences": [s._asdict() for s in found.sentences], "findings": [f._asdict() for f in found.findings]}
