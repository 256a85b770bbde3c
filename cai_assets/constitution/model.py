"""What a constitution is.

A constitution is a set of principles in natural language (Bai et al. 2022, section 1.2 and appendix C).
Each principle owns up to four requests and takes part where it has one: ``critique`` and ``revision`` in
the supervised phase, ``preference`` in AI feedback, ``evaluation`` in the judging of finished policies, which
trains nothing. A ``check`` is a rule that needs no judge; ``rubric`` is a yes/no question about one answer, and
``gate`` makes it a hard rule, where the settings reward by them (``rl.checks``, ``rl.reward: rubric``). Few-shot
examples are versioned with the principles and carry their own fixed request texts, so that editing a principle never
changes another principle's prompts.

A constitution may be a document of articles and clauses: each clause in force is compiled to a principle of the same id
(``clauses.py``), which is all that a run sees. ``why`` says why a principle holds and stands in prompts where the
settings ask for it; of several ``priority`` tiers a lower one decides only where the higher is undecided, in votes and
in rewards by principles.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from cai_assets.constitution.check import Check
from cai_assets.errors import CaiError

SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"
Slug = Annotated[str, StringConstraints(pattern=SLUG)]
PrincipleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
NonEmptyText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]
Use = Literal["critique", "preference", "evaluation"]
Fill = Literal["preference", "critique", "all", "none"]  # the requests that are made of a sentence
Status = Literal["active", "new", "deferred"]
Priority = Annotated[int, Field(ge=1, le=99)]


def slug_of(text: str) -> str:
    """A slug like the text; empty if it has no letter or digit of a slug."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:63].strip("-")


class UnknownPrinciple(CaiError, KeyError):
    """A constitution has no principle of that id. The message names those that it has."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError prints its argument in quotes


class Strict(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Rule(Strict):
    """What a principle and a clause have in common."""

    id: PrincipleId
    name: NonEmptyText | None = None
    critique: NonEmptyText | None = None
    revision: NonEmptyText | None = None
    preference: NonEmptyText | None = None
    evaluation: NonEmptyText | None = None
    rubric: NonEmptyText | None = None
    check: Check | None = None
    gate: bool = False
    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False, strict=False)
    tags: tuple[Slug, ...] = Field(default=(), strict=False)
    source: NonEmptyText | None = None
    why: NonEmptyText | None = None


class Principle(Rule):
    """One rule. ``id`` is its permanent identity: never reuse or rename one. Priority 1 is the highest."""

    priority: Priority = 1

    @model_validator(mode="after")
    def _has_a_part_to_play(self) -> Principle:
        if (self.critique is None) != (self.revision is None):
            raise ValueError("'critique' and 'revision' belong together: give both or neither")
        if self.idle:
            raise ValueError("needs 'critique' and 'revision', or a 'preference', 'evaluation', 'rubric', or 'check'")
        if self.gate and not (self.rubric or self.check or self.preference):
            raise ValueError("'gate' makes a hard rule of a 'rubric', a 'check', or a 'preference': give it one")
        return self

    @property
    def idle(self) -> bool:
        """Whether it takes part in nothing."""
        return not (self.critique or self.preference or self.evaluation or self.rubric or self.check)


class Clause(Rule):
    """One clause of a document. ``id`` is permanent; ``number``, where it differs, is how the document counts it now.

    ``basis``: ids, or the words, of what it rests on in a parent document. ``new``: it rests on nothing there;
    ``deferred``: it is known and put off, and no principle is made of it. ``examples`` are for readers.
    """

    text: NonEmptyText
    number: NonEmptyText | None = None
    examples: tuple[NonEmptyText, ...] = Field(default=(), strict=False)
    basis: tuple[NonEmptyText, ...] = Field(default=(), strict=False)
    status: Status = "active"

    @property
    def label(self) -> str:
        """What people call it: its number in the document."""
        return self.number or self.id


class Article(Strict):
    """Clauses under one heading, of one priority."""

    id: PrincipleId
    title: NonEmptyText | None = None
    why: NonEmptyText | None = None
    priority: Priority = 1
    clauses: tuple[Clause, ...] = Field(default=(), max_length=1000, strict=False)


class RevisionShot(Strict):
    """A worked example of one critique and revision, with the fixed requests it answers."""

    prompt: NonEmptyText
    response: NonEmptyText
    critique_request: NonEmptyText
    critique: NonEmptyText
    revision_request: NonEmptyText
    revision: NonEmptyText


class PreferenceShot(Strict):
    """A worked example of one comparison, with the fixed request it answers.

    ``reasons`` make it an example of chain-of-thought labels too; without them it stands in plain ones alone.
    """

    prompt: NonEmptyText
    a: NonEmptyText
    b: NonEmptyText
    request: NonEmptyText
    reasons: NonEmptyText | None = None
    choice: Literal["A", "B"]


class FewShots(Strict):
    revision: tuple[RevisionShot, ...] = Field(default=(), strict=False)
    preference: tuple[PreferenceShot, ...] = Field(default=(), strict=False)


class Constitution(Strict):
    """A named, versioned set of principles. ``name`` is the file's stem."""

    name: Slug
    version: Slug
    description: str = ""
    principles: tuple[Principle, ...] = Field(default=(), min_length=1, max_length=1000, strict=False)
    articles: tuple[Article, ...] = Field(default=(), max_length=1000, strict=False)
    fill: Fill = "all"
    parent: NonEmptyText | None = None
    few_shots: FewShots = FewShots()

    @model_validator(mode="after")
    def _has_a_principle(self) -> Constitution:
        if not (self.principles or self.clauses):
            raise ValueError("needs at least one item in 'principles', or an article with a clause in 'articles'")
        return self

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Constitution:
        ids = [p.id for p in self.principles]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"principle id used twice: {', '.join(twice)}")
        return self

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Every clause of the document, those that are deferred too, in file order."""
        return tuple(clause for article in self.articles for clause in article.clauses)

    def taking_part(self, use: Use) -> tuple[Principle, ...]:
        """Principles that have a request for this use, in file order."""
        return tuple(p for p in self.principles if getattr(p, use) is not None)

    def principle(self, principle_id: str) -> Principle:
        """Raise UnknownPrinciple, naming the known ids, if there is no such principle."""
        for p in self.principles:
            if p.id == principle_id:
                return p
        raise UnknownPrinciple(f"no principle {principle_id!r} in {self.name} {self.version}; it has: "
                               + ", ".join(p.id for p in self.principles))
