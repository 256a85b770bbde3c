"""Constitutions derived from another one to find out what a principle does: without it, with it alone, or rebuilt.

Guarantees: pure; the source constitution is not changed. Only what trains is left out. Every ``evaluation`` request
stays, so that a derived version is judged by the same principles on the same draws as the whole one, and adherence to
the omitted principle can be compared. Few-shot examples stay. A use that would be left without any
principle keeps its last one, and ``kept`` says so; where nothing could be left out, CannotDerive says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from cai_assets.constitution.digest import LONGEST_KEY, REQUESTS, partition_key
from cai_assets.constitution.model import Constitution, Principle, Use
from cai_assets.errors import CaiError
from cai_assets.store.canonical import tagged_hash

DerivationKind = Literal["without", "only", "again"]
TRAINS: tuple[Use, Use] = ("critique", "preference")
LONGEST_NAME = 63  # of a slug
HASHED = 8


class CannotDerive(CaiError, ValueError):
    """Leaving this principle out, or keeping it alone, would train nothing or change nothing."""


@dataclass(frozen=True)
class Derived:
    """A constitution made for comparison. ``seed`` is added to the settings' seed when it is materialized.

    ``kept``: uses in which the principle still takes part, because it is the only one that does.
    """

    kind: DerivationKind
    principle: str | None  # none for 'again'
    seed: int
    constitution: Constitution
    kept: tuple[Use, ...] = ()

    @property
    def key(self) -> str:
        """The partition key."""
        return partition_key(self.constitution)

    @property
    def label(self) -> str:
        """Its name for people."""
        what = f"{self.kind} {self.principle}" if self.principle else "the whole version again"
        return f"{what}, seed +{self.seed}" if self.seed else what


def without(c: Constitution, principle_id: str, seed: int = 0) -> Derived:
    """``c`` with one principle left out of training. Raise UnknownPrinciple, or CannotDerive if it cannot be.

    A principle with an ``evaluation`` request still judges.
    """
    uses = [use for use in TRAINS if getattr(c.principle(principle_id), use) is not None]
    if not uses:
        raise CannotDerive(f"{principle_id} judges finished policies and trains nothing: there is nothing to leave out")
    kept = tuple(use for use in uses if len(c.taking_part(use)) == 1)
    if len(kept) == len(uses):
        raise CannotDerive(f"{principle_id} is the only principle for {' and for '.join(uses)}: without it nothing "
                           "could be trained")
    gone = [use for use in uses if use not in kept]
    rest = [_stripped(p, gone) if p.id == principle_id else p for p in c.principles]
    return _derived(c, "without", principle_id, seed, rest, kept)


def only(c: Constitution, principle_id: str, seed: int = 0) -> Derived:
    """``c`` with one principle alone in training; the others still judge. Raise UnknownPrinciple or CannotDerive."""
    p = c.principle(principle_id)
    trains = [use for use in TRAINS if c.taking_part(use)]
    lacking = [use for use in trains if getattr(p, use) is None]
    if lacking:
        raise CannotDerive(f"{principle_id} has no {' and no '.join(lacking)} request: alone it cannot train a policy")
    if all(len(c.taking_part(use)) == 1 for use in trains):
        raise CannotDerive(f"{principle_id} is the only principle that trains: alone it would equal the whole version")
    rest = [q if q.id == principle_id else _stripped(q, TRAINS) for q in c.principles]
    return _derived(c, "only", principle_id, seed, rest)


def again(c: Constitution, seed: int) -> Derived:
    """``c`` unchanged under another name, to be rebuilt with another seed: the effect of retraining alone."""
    if seed < 1:
        raise ValueError(f"a rebuilt version needs another seed: 1 or more, not {seed}")
    return _derived(c, "again", None, seed, c.principles)


def derive(c: Constitution, kind: DerivationKind, principle: str | None, seed: int) -> Derived:
    """The derived constitution of that kind. Raise UnknownPrinciple or CannotDerive."""
    if kind == "again" or principle is None:
        return again(c, seed)
    return (without if kind == "without" else only)(c, principle, seed)


def family(
    c: Constitution, principles: Sequence[str] = (), *, alone: bool = False, seeds: int = 1, null: bool = False
) -> tuple[list[Derived], list[str]]:
    """Every derived version that a comparison needs, in the order in which to make them, and why some cannot be made.

    ``principles``: ids, or none for all. ``alone``: each principle alone, too. With several ``seeds`` each version is
    built once per seed, the whole one too; ``null`` rebuilds the whole one even with one seed.
    """
    kinds: tuple[DerivationKind, ...] = ("without", "only") if alone else ("without",)
    wanted = dict.fromkeys([c.principle(i).id for i in principles] or [p.id for p in c.principles])
    derived, why = [], []
    for kind in kinds:
        for principle in wanted:
            try:
                derived += [derive(c, kind, principle, seed) for seed in range(seeds)]
            except CannotDerive as e:
                why.append(f"{kind} {principle}: {e}")
    return [again(c, seed) for seed in range(1, max(seeds, 2 if null else 1))] + derived, why


def _stripped(p: Principle, uses: list[Use] | tuple[Use, ...]) -> Principle | None:
    """The principle without its requests for these uses, and without what may reward by it; None if that is all."""
    update = {**{request: None for use in uses for request in REQUESTS[use]}, "rubric": None, "check": None,
              "gate": False}
    left = p.model_copy(update=update)
    return None if left.idle else left


def _derived(
    c: Constitution, kind: DerivationKind, principle: str | None, seed: int, principles: object,
    kept: tuple[Use, ...] = (),
) -> Derived:
    left = tuple(p for p in cast("list[Principle | None]", principles) if p is not None)
    parts = [kind, principle] if principle else [kind]
    parts += [f"seed-{seed}"] if seed else []
    what = f"{kind} {principle!r}" if principle else kind
    text = f"{c.name} {c.version} {what}, derived to see what a principle does."
    variant = c.model_copy(update={"name": _name(c, parts), "description": text, "principles": left})
    return Derived(kind, principle, seed, variant, kept)


def _name(c: Constitution, parts: list[str]) -> str:
    """``<name>-without-<principle>``, truncated if too long, with a hash to keep it unique."""
    name = "-".join((c.name, *parts)).replace(".", "-")
    longest = min(LONGEST_NAME, LONGEST_KEY - len(c.version) - len("--") - 8)
    if len(name) <= longest:
        return name
    mark = tagged_hash("derived", [c.name, *parts])[-HASHED:]
    return f"{name[: longest - HASHED - 1].rstrip('-')}-{mark}"
