"""What the labeler is asked about a pair: by which principles, in which orders, how many times.

``labels.principles``: one drawn for the pair, all in one question, or a question for each ('vote'). Principles that
take part together do so in the order of their ids, so that the order of the file changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.draw import draw, label_key
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.errors import CaiError
from cai_assets.settings import Labels
from cai_assets.store.canonical import tagged_hash

Order = Literal["first", "second"]
ORDERS: tuple[Order, Order] = ("first", "second")
ALL = ("Compare the answers by every one of these questions:\n{requests}\n"
       "Taking all of them together, which answer is better?")


class Judged(NamedTuple):
    """The principles that judge a pair. ``principle_id``: None where several do; then ``digest`` covers all of them.

    ``requests``: principle id (None for all at once) and request text of each question. ``tiers``: where several
    priorities vote, the ids of each, the highest first.
    """

    principle_id: str | None
    digest: str
    requests: tuple[tuple[str | None, str], ...]
    tiers: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True)
class Question:
    """One reading of the probability of an answer. ``order``: the place in which response A is shown."""

    pair: Mapping[str, Any]
    principle_id: str | None
    request: str
    order: Order
    sample: int

    @property
    def shown(self) -> tuple[str, str]:
        """The responses in the order in which the labeler sees them."""
        a, b = self.pair["response_a"], self.pair["response_b"]
        return (a, b) if self.order == "first" else (b, a)


class NoRequest(CaiError, ValueError):
    """A constitution has no request of the kind that is to be asked."""


def labeling_principles(constitution: Constitution) -> tuple[Principle, ...]:
    """Those with a preference request, by id. Raise NoRequest if there is none."""
    principles = constitution.taking_part("preference")
    if not principles:
        raise NoRequest(f"{constitution.name} {constitution.version}: no principle has a 'preference' request, so "
                        "nothing can be labeled; add one to the constitution file")
    return tuple(sorted(principles, key=lambda p: p.id))


def judged_by(pair_id: str, principles: Sequence[Principle], settings: Labels) -> Judged:
    """Which principles judge a pair, and by which questions."""
    if settings.principles == "drawn":
        p = draw(principles, label_key(pair_id))
        return Judged(p.id, principle_digest(p, "preference"), ((p.id, str(p.preference)),))
    digest = tagged_hash("c1principles", [principle_digest(p, "preference") for p in principles])
    if settings.principles == "vote":
        tiers = tiers_of(principles)
        known = tagged_hash("c1tiers", [digest, [sorted(tier) for tier in tiers]]) if tiers else digest
        return Judged(None, known, tuple((p.id, str(p.preference)) for p in principles), tiers)
    numbered = "\n".join(f"{i}. {p.preference}" for i, p in enumerate(principles, 1))
    return Judged(None, digest, ((None, ALL.format(requests=numbered)),))


def tiers_of(principles: Sequence[Principle]) -> tuple[frozenset[str], ...]:
    """The ids of each priority, the highest first; nothing where all have the same."""
    found = sorted({p.priority for p in principles})
    return tuple(frozenset(p.id for p in principles if p.priority == tier) for tier in found) if found[1:] else ()


def questions_about(pair: Mapping[str, Any], judged: Judged, settings: Labels) -> list[Question]:
    """Every reading that the label of a pair is averaged over."""
    return [Question(pair, principle_id, request, order, sample) for principle_id, request in judged.requests
            for sample in range(settings.samples) for order in ORDERS]


def calls_per_pair(settings: Labels, constitution: Constitution) -> int:
    """Model calls that one label takes."""
    questions = len(labeling_principles(constitution)) if settings.principles == "vote" else 1
    return len(ORDERS) * questions * settings.samples * (2 if settings.chain_of_thought else 1)
