"""Advice on a constitution that is valid, and on its tests.

Guarantees: looks only at what it is given, changes nothing, and gives findings in a stable order. An *error*
is never intended, a *warning* rarely is, a *note* is worth knowing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice
from typing import Literal, NamedTuple

from rapidfuzz import fuzz, utils

from cai_assets.assets import HALVES
from cai_assets.constitution.cases import Case, Cases
from cai_assets.constitution.draw import critique_key, draw, evaluation_key, label_key
from cai_assets.constitution.model import Constitution, Principle, Strict, Use

NEAR = 90.0  # per cent of characters kept in the best alignment, words in any order
RARE = 1e-3  # share of draws
LONG_TEXT = 1_200  # characters, one request
LONG_SHOTS = 4_000  # characters, one block of examples: about half of a 2,048-token window
LOPSIDED = 0.25
OPPOSED = ("not-", "no-", "dont-")  # a tag 'not-x' is the opposite of the tag 'x'
MOST_DRAWS = 100_000  # of one use that are looked at
TRAINING: tuple[Use, ...] = ("critique", "preference")
USES: tuple[Use, ...] = (*TRAINING, "evaluation")
# By the request that nobody has, what is left.
ALONE = {gone.requests[0]: left.alone for gone, left in zip(HALVES, reversed(HALVES), strict=True)}
PHASE: dict[Use, str] = {"critique": "critique and revision", "preference": "AI feedback", "evaluation": "evaluation"}


class Finding(NamedTuple):
    """One remark; ``principle`` is an id, or None for the constitution as a whole."""

    level: Literal["error", "warning", "note"]
    principle: str | None
    message: str


class Draws(NamedTuple):
    """What a run would draw principles for: prompts, each in every round, or pairs. ``what`` describes it."""

    use: Use
    ids: Sequence[str]
    what: str
    rounds: int = 1

    def each(self) -> Iterator[str]:
        """The keys of the draws, as ``constitution/draw.py`` makes them."""
        if self.use == "critique":
            return (critique_key(i, number) for i in self.ids for number in range(1, self.rounds + 1))
        return map(label_key if self.use == "preference" else evaluation_key, self.ids)


def lint(c: Constitution, *, draws: Sequence[Draws] = ()) -> list[Finding]:
    """All findings, by kind of check, then in file order. ``draws``: what the principles are drawn for, if known."""
    checks: tuple[Callable[[Constitution], Iterator[Finding]], ...] = (
        _duplicates, _contradictions, _missing_requests, _balance, _rarely_drawn, _long_texts, _few_shots, _tiers,
        _put_off)
    findings = [finding for check in checks for finding in check(c)]
    return [*findings, *(finding for d in draws for finding in _never_drawn(c, d))]


def lint_cases(c: Constitution, cases: Cases) -> list[Finding]:
    """What the tests leave out. The loader checks that every case names a principle of ``c``."""
    findings = [finding for case in cases.cases for finding in _idle(case, c.principle(case.principle))]
    return [*findings, *(Finding("note", i, "no test case names it") for i in cases.untested(c))]


def _duplicates(c: Constitution) -> Iterator[Finding]:
    # Revision requests may be shared; two equal critiques or comparisons only double a weight.
    for use in USES:
        words = [(p.id, utils.default_process(getattr(p, use)).split()) for p in c.taking_part(use)]
        texts = [(id_, w, " ".join(sorted(w))) for id_, w in words]
        for (a, v, x), (b, w, y) in combinations(texts, 2):
            if v == w:
                yield Finding("error", b, f"its {use} request equals that of '{a}': merge them and add their weights")
            elif fuzz.ratio(x, y, score_cutoff=NEAR):
                yield Finding("warning", b, f"its {use} request nearly equals that of '{a}': merge or separate them")


def _contradictions(c: Constitution) -> Iterator[Finding]:
    # Only tags can show it: two contradicting texts look no more alike than any others.
    for a, b in combinations(c.principles, 2):
        uses = [PHASE[use] for use in USES if getattr(a, use) is not None and getattr(b, use) is not None]
        for x in a.tags if uses else ():
            for y in b.tags:
                if _opposed(x, y):
                    yield Finding("warning", b.id, f"is tagged '{y}' and '{a.id}' '{x}': they contradict each other in "
                                                   f"{' and '.join(uses)}; drop one, or correct the tags")


def _opposed(x: str, y: str) -> bool:
    return any(x == prefix + y or y == prefix + x for prefix in OPPOSED)


def _missing_requests(c: Constitution) -> Iterator[Finding]:
    # Judging policies by principles is optional, and a principle may exist for that alone.
    trains = [p for p in c.principles if p.critique or p.preference]
    for use in TRAINING:
        taking = {p.id for p in c.taking_part(use)}
        if not taking:
            yield (Finding("note", None, f"no principle has a {use} request: no {PHASE[use]}; {ALONE[use]}") if trains
                   else Finding("warning", None, f"no principle has a {use} request: there can be no {PHASE[use]}"))
            continue
        for p in trains:
            if p.id not in taking:
                yield Finding("note", p.id, f"has no {use} request: takes no part in {PHASE[use]}")


def _balance(c: Constitution) -> Iterator[Finding]:
    count = {tag: sum(tag in p.tags for p in c.principles) for tag in ("do", "dont")}
    total = sum(count.values())
    if not total:
        yield Finding("note", None, "no principle is tagged 'do' or 'dont': their balance is not known")
    for tag, n in count.items():
        if total and n < LOPSIDED * total:
            side = "what to do" if tag == "do" else "what not to do"
            yield Finding("warning", None, f"{n} of {total} tagged principles say {side} ('{tag}'): add some")


def _rarely_drawn(c: Constitution) -> Iterator[Finding]:
    for use in USES:
        total = sum(p.weight for p in c.taking_part(use))
        for p in c.taking_part(use):
            if p.weight < RARE * total:
                yield Finding("warning", p.id, f"gets one of {round(total / p.weight):,} draws in {PHASE[use]}: "
                                               "raise its weight or remove it")


def _long_texts(c: Constitution) -> Iterator[Finding]:
    for p in c.principles:
        for field in ("critique", "revision", "preference", "evaluation", "rubric"):
            length = len(getattr(p, field) or "")
            if length > LONG_TEXT:
                yield Finding("warning", p.id, f"its {field} request has {length:,} characters and stands in every "
                                               f"prompt it is drawn for: stay under {LONG_TEXT:,}")


def _few_shots(c: Constitution) -> Iterator[Finding]:
    blocks: dict[Use, tuple[Strict, ...]] = {"critique": c.few_shots.revision, "preference": c.few_shots.preference}
    for use, shots in blocks.items():
        length = sum(len(text) for shot in shots for text in shot.model_dump(exclude_none=True).values())
        if c.taking_part(use) and not shots:
            yield Finding("warning", None, f"no few-shot examples for {PHASE[use]}: small models need some")
        if length > LONG_SHOTS:
            yield Finding("warning", None, f"few-shot examples for {PHASE[use]} have {length:,} characters: "
                                           f"stay under {LONG_SHOTS:,}, or a small window has no room for answers")
    choices = [shot.choice for shot in c.few_shots.preference]
    if abs(choices.count("A") - choices.count("B")) > 1:
        yield Finding("warning", None, f"few-shot comparisons choose {', '.join(choices)}: "
                                       "balance A and B, or labels lean to one side")


def _tiers(c: Constitution) -> Iterator[Finding]:
    if len({p.priority for p in c.principles if p.preference or p.rubric or p.check}) > 1:
        yield Finding("note", None, "its priorities count only where principles vote (labels.principles=vote) or "
                                    "reward one by one (rl.reward=rubric, reward.input=principle, rl.checks)")


def _put_off(c: Constitution) -> Iterator[Finding]:
    for clause in c.clauses:
        if clause.status == "deferred":
            yield Finding("note", clause.id, "is deferred: no principle is made of it")


def _never_drawn(c: Constitution, draws: Draws) -> Iterator[Finding]:
    principles = c.taking_part(draws.use)
    left = {p.id for p in principles}
    number = len(draws.ids) * draws.rounds
    for key in islice(draws.each(), MOST_DRAWS if len(left) > 1 else 0):
        left.discard(draw(principles, key).id)
        if not left:
            return
    looked = f"the first {MOST_DRAWS:,} draws" if number > MOST_DRAWS else f"the {number:,} draws"
    for p in principles if number and len(principles) > 1 else ():
        if p.id in left:
            yield Finding("note", p.id, f"is in none of {looked} for {PHASE[draws.use]} ({draws.what}): an edit of it "
                                        "changes nothing there; more prompts or a higher weight would")


def _idle(case: Case, principle: Principle) -> Iterator[Finding]:
    """What of a case cannot be tested, because its principle takes no part there."""
    if case.conditions and principle.critique is None:
        yield Finding("note", principle.id, f"has no critique, so case '{case.id}' holds only a finished policy to its "
                                            "conditions")
    if case.good is not None and principle.preference is None and principle.evaluation is None:
        yield Finding("warning", principle.id, "has neither a preference nor an evaluation request, so nothing can "
                                               f"compare the good answer of case '{case.id}'")
