"""What changed between two constitutions, and what each change touches downstream.

Guarantees: pure; every difference that counts (``digest.content``) is in ``changes`` or ``shots``, every other one
in ``cosmetic``; two constitutions differ in nothing exactly if their diff is empty. A row or checkpoint that
``touches`` does not name keeps its key. Shares are expectations over prompts, and upper bounds of the work: where a
new critique, revision or label comes out as before, nothing below it changes.

Shares, derived. Principle i draws with rate w_i: in a rendezvous draw ``E_i / w_i`` is smallest for the winner, E_i
independent and exponential with mean 1, the same before and after. With weights w before and v after, i wins both
draws if E_j > E_i * max(w_j / w_i, v_j / v_i) for every j != i, so with probability

    k_i = 1 / sum_j max(w_j / w_i, v_j / v_i)          (the term of j = i is 1)

and a draw is touched with probability t = 1 - sum of k_i over the principles in both whose text is the same. Special
cases, W the sum of weights: edit or remove one, t = w/W; add one, t = w'/(W + w'); change one weight, t = |its new
share - its old share|. Rounds draw independently and a touched step touches all that follow it in its chain, so step
k of a chain is touched with probability 1 - (1 - t)^k, and a chain of R rounds with 1 - (1 - t)^R. A revision request
stands in no critique prompt: the critique of round k is touched with 1 - (1 - t)^(k-1) (1 - c), c being t without
those draws whose revision request alone changed. An evaluation request touches only judgements of policies, t of
them: one draw for each evaluation prompt.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, NamedTuple

from cai_assets.constitution.digest import REQUESTS
from cai_assets.constitution.model import Constitution, PreferenceShot, Principle, RevisionShot, Use

Kind = Literal["added", "removed", "edited", "re-weighted"]
Shot = RevisionShot | PreferenceShot
Shots = tuple[Shot, ...]
BLOCKS: dict[Use, Literal["revision", "preference"]] = {"critique": "revision", "preference": "preference"}
FIELDS = tuple(request for requests in REQUESTS.values() for request in requests)
COSMETIC = ("name", "tags", "source")
ROUNDING = 1e-12
MAX_PAIRS = 1_000_000  # the comparison of words is quadratic

REASONS = {
    "added": "takes its share of draws from the others",
    "removed": "its draws go to the others",
    "edited": "its request stands in the prompts of what drew it",
    "re-weighted": "draws move to it or from it",
    "shots": "the examples stand in every prompt of this phase",
    "all": "other draws, requests or examples",
}

CANNOT = "no principle is left for this phase: it cannot be made"
NONE_LEFT: dict[Use, str] = {"critique": CANNOT, "preference": CANNOT,
                             "evaluation": "no principle is left to judge by: adherence is no longer measured"}


class Word(NamedTuple):
    """A run of words with the white space after each."""

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
    """One change of one principle. An edited and re-weighted principle has two, each as if it were alone."""

    kind: Kind
    id: str
    before: Principle | None
    after: Principle | None

    @property
    def label(self) -> str:
        weights = f" {self.before.weight:g} → {self.after.weight:g}" if self.before and self.after else ""
        return f"{self.kind} {self.id}{weights if self.kind == 're-weighted' else ''}"

    @property
    def texts(self) -> tuple[TextChange, ...]:
        """The requests that differ; all of an added or removed principle."""
        pairs = ((f, getattr(self.before, f, None), getattr(self.after, f, None)) for f in FIELDS)
        return tuple(TextChange(*p) for p in pairs if p[1] != p[2])


@dataclass(frozen=True, slots=True)
class ShotChange:
    """Another block of few-shot examples. Their order counts."""

    use: Use
    before: Shots
    after: Shots

    @property
    def label(self) -> str:
        return f"few-shot examples for {BLOCKS[self.use]}"

    @property
    def texts(self) -> tuple[TextChange, ...]:
        """Texts that differ, by the number of their example (after, or before if it was removed)."""
        return tuple(t for op, i, i2, j, j2 in _opcodes(self.before, self.after) if op != "equal"
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


class Touch(NamedTuple):
    """What one change does to one asset.

    ``rows``: expected share of the asset's rows that are made again (1.0 for a training; None where settings decide).
    ``chains``: expected share of the chains of red-team prompts, for the assets that have chains.
    """

    change: str
    asset: str
    rows: float | None
    chains: float | None
    reason: str


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


def touches(found: Diff, *, rounds: int = 4) -> list[Touch]:
    """What each change, alone, touches: assets in the order of the graph. Cosmetic ones touch nothing."""
    counting: list[Change | ShotChange] = [*found.shots, *found.changes]
    return [t for change in counting
            for t in _between(found.before, applied(found.before, change), change.label,
                              REASONS[change.kind if isinstance(change, Change) else "shots"], rounds)]


def together(found: Diff, *, rounds: int = 4) -> list[Touch]:
    """What all changes together touch: not the sum, since one draw may be touched twice."""
    return _between(found.before, found.after, "all together", REASONS["all"], rounds)


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


def draws_touched(before: Mapping[str, float], after: Mapping[str, float], edited: Collection[str] = ()) -> float:
    """Share t of draws whose winner, or its text, is another. Weights by id; ``edited``: ids with another text.

    In the order of v_i / w_i the maxima of k_i are w_j / w_i up to i and v_j / v_i after it: two running sums.
    """
    def ratio(i: str) -> tuple[float, str]:
        return (after.get(i, 0.0) / before[i] if i in before else float("inf")), i

    ids = sorted(before.keys() | after.keys(), key=ratio)
    up_to, beyond, kept = 0.0, sum(after.values()), 0.0
    for i in ids:
        w, v = before.get(i, 0.0), after.get(i, 0.0)
        up_to, beyond = up_to + w, max(beyond - v, 0.0)
        if w and v and i not in edited:
            kept += 1 / (up_to / w + beyond / v)
    return 1 - kept if ids and 1 - kept > ROUNDING else 0.0


def share_of_chains(t: float, rounds: int, c: float | None = None) -> float:
    """Chains with a touched step: 1 - (1 - t)^(R-1) (1 - c); ``c``: share of touched draws that count, if not ``t``."""
    return 1 - (1 - t) ** (rounds - 1) * (1 - (t if c is None else c))


def share_of_steps(t: float, rounds: int, c: float | None = None) -> float:
    """Steps touched: the mean over rounds k of ``share_of_chains(t, k, c)``."""
    return sum(share_of_chains(t, k, c) for k in range(1, rounds + 1)) / rounds


def word_ops(before: str, after: str) -> tuple[Word, ...]:
    """Word-level edit script: without 'insert' it reads ``before``, without 'delete' ``after``, ends stripped."""
    old, new = (re.findall(r"\s*\S+\s*", f"{text} ") for text in (before, after))
    if len(old) * len(new) > MAX_PAIRS:
        return (Word("delete", "".join(old)), Word("insert", "".join(new)))
    ops: list[Word] = []
    for op, i, i2, j, j2 in _opcodes(old, new):
        if op == "equal":
            ops.append(Word("equal", "".join(old[i:i2])))
            continue
        ops += [Word("delete", "".join(old[i:i2]))] if i < i2 else []
        ops += [Word("insert", "".join(new[j:j2]))] if j < j2 else []
    return tuple(ops)


def _opcodes(old: Sequence[str | Shot], new: Sequence[str | Shot]) -> Sequence[tuple[str, int, int, int, int]]:
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
    for field in ("name", "version", "description"):
        if getattr(before, field) != getattr(after, field):
            yield Cosmetic(None, field, getattr(before, field), getattr(after, field))
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


def _text(value: str | tuple[str, ...] | None) -> str:
    return value or "" if isinstance(value, str | None) else ", ".join(value)


def _shot_texts(old: Shot | None, new: Shot | None, number: int) -> Iterator[TextChange]:
    for field in dict(new or old or ()):
        texts = getattr(old, field, None), getattr(new, field, None)
        if texts[0] != texts[1]:
            yield TextChange(f"example {number} {field}", *texts)


def _draws(before: Constitution, after: Constitution, use: Use, fields: tuple[str, ...]) -> float:
    old, new = ({p.id: p for p in c.taking_part(use)} for c in (before, after))
    if not (old or new):
        return 0.0
    block = BLOCKS.get(use)
    if block and getattr(before.few_shots, block) != getattr(after.few_shots, block):
        return 1.0
    edited = [i for i in old.keys() & new.keys() if any(getattr(old[i], f) != getattr(new[i], f) for f in fields)]
    return draws_touched({i: p.weight for i, p in old.items()}, {i: p.weight for i, p in new.items()}, edited)


def _between(before: Constitution, after: Constitution, change: str, reason: str, rounds: int) -> list[Touch]:
    def touch(asset: str, rows: float | None, why: str, chains: float | None = None) -> Touch:
        return Touch(change, asset, rows, chains, why)

    def why(use: Use) -> str:
        return reason if after.taking_part(use) else NONE_LEFT[use]

    t = _draws(before, after, "critique", REQUESTS["critique"])
    labels = _draws(before, after, "preference", REQUESTS["preference"])
    if t:
        c = _draws(before, after, "critique", ("critique",))
        return [*_supervised(touch, t, c, why("critique"), rounds), *_preference(touch, 1.0, "labels of new responses"),
                *_reinforcement(touch, "sl_policy and reward_model are new")]
    if labels:
        return [*_preference(touch, labels, why("preference")), *_reinforcement(touch, "reward_model is new")]
    if judged := _draws(before, after, "evaluation", REQUESTS["evaluation"]):
        return list(_evaluation(touch, judged, why("evaluation")))
    return []


def _supervised(touch: Callable[..., Touch], t: float, c: float, why: str, rounds: int) -> Iterator[Touch]:
    chains = share_of_chains(t, rounds)
    if critiques := share_of_steps(t, rounds, c):
        yield touch("critiques", critiques, why, share_of_chains(t, rounds, c))
    yield touch("revisions", share_of_steps(t, rounds), why, chains)
    yield touch("sl_dataset", None, "holds the revisions of those chains", chains)
    yield touch("sl_policy", 1.0, "trained again on sl_dataset")
    yield touch("response_pairs", 1.0, "sampled again from sl_policy")


def _preference(touch: Callable[..., Touch], labels: float, why: str) -> Iterator[Touch]:
    yield touch("preference_pairs", labels, why)
    yield touch("reward_model", 1.0, "trained again on preference_pairs")


def _reinforcement(touch: Callable[..., Touch], why: str) -> Iterator[Touch]:
    yield touch("rl_policy", 1.0, f"trained again: {why}")
    yield from _evaluation(touch, None, "new policies respond and are judged; rows of the others are reused")


def _evaluation(touch: Callable[..., Touch], rows: float | None, why: str) -> Iterator[Touch]:
    yield touch("evaluation", rows, why)
    yield touch("comparison", None, "shows the new evaluation")
