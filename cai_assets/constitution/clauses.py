"""From the clauses of a document to principles, and from a principle's reason to its prompts.

Guarantees: a clause becomes a principle of the same id, so that draws and keys hold on to it whatever its number, its
place and its article are; a clause whose principle is there already is left as it is, so that a stored version never
changes with the templates; and a principle without ``why`` keeps its requests to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from cai_assets.constitution.model import Article, Clause, Constitution, Fill, Principle, Rule
from cai_assets.constitution.templates import REQUESTS, filled
from cai_assets.errors import CaiError

REASONED = "{request}\n\nWhy this principle holds: {why}"
CARRIED = tuple(name for name in Rule.model_fields if name not in REQUESTS)


class BadClause(CaiError, ValueError):
    """A clause of which no principle can be made. ``at``: the numbers of its article and of itself, from 0."""

    def __init__(self, at: tuple[int, int], why: str) -> None:
        super().__init__(why)
        self.at = at


def compiled(c: Constitution) -> Constitution:
    """The constitution with a principle for each clause that is in force. Raise BadClause."""
    known = {p.id for p in c.principles}
    made: list[Principle] = []
    for i, article in enumerate(c.articles):
        for j, clause in enumerate(article.clauses):
            if clause.status != "deferred" and clause.id not in known:
                try:
                    made.append(principle_of(clause, article, c.fill))
                except ValidationError as e:
                    raise BadClause((i, j), e.errors()[0]["msg"].removeprefix("Value error, ")) from None
    return c.model_copy(update={"principles": (*c.principles, *made)}) if made else c


def principle_of(clause: Clause, article: Article, fill: Fill) -> Principle:
    """The principle of a clause: its own requests, and those that ``fill`` makes of its text. Raise ValidationError."""
    requests = {name: getattr(clause, name) or "" for name in REQUESTS}
    filled(requests, clause.text, fill)
    name = clause.name or (f"{article.title} {clause.label}" if article.title else None)
    facts = {f: getattr(clause, f) for f in CARRIED}
    return Principle(**facts | {f: text for f, text in requests.items() if text}
                     | {"name": name, "why": clause.why or article.why, "priority": article.priority})


def loose(c: Constitution) -> tuple[Principle, ...] | None:
    """The principles that are no clause's; None if the document alone would not bring back all the others."""
    ids = {clause.id for clause in c.clauses}
    own = tuple(p for p in c.principles if p.id not in ids)
    again = compiled(c.model_copy(update={"principles": own}))
    return own if {p.id: p for p in again.principles} == {p.id: p for p in c.principles} else None


def explained(c: Constitution, requests: Sequence[str]) -> Constitution:
    """``c`` with the reason of each principle after these requests of it, as its prompts are to show them."""
    return c.model_copy(update={"principles": tuple(with_why(p, requests) for p in c.principles)})


def with_why(p: Principle, requests: Sequence[str]) -> Principle:
    """The principle with its reason after these requests."""
    own = {name: REASONED.format(request=text, why=p.why) for name in requests if p.why and (text := getattr(p, name))}
    return p.model_copy(update=own) if own else p

