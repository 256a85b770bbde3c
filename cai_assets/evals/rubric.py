"""Principles as rewards: one number for each response and principle, and one for the response.

A principle's question is asked of the response alone and answered by Yes or No, read from the probabilities of the
answer tokens in both orders (``yes_no.py``), as rubrics are used for rewards (Gunjal et al. 2025, arXiv 2507.17746) but
without parsing. Its check needs no model. Guarantees: a score depends on the text, the principle and the judge alone,
so that a stored rollout is scored again for the price of what changed. ``weighing.py`` makes one reward of a response's
scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, assert_never

import numpy as np
from pydantic import BaseModel, ConfigDict

from cai_assets.constitution.check import Check
from cai_assets.constitution.digest import principle_digest, question_of, reward_digest
from cai_assets.constitution.draw import draw_few, label_key
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Message, Style
from cai_assets.evals.judge import Ask
from cai_assets.evals.rules import checked, keeps
from cai_assets.evals.weighing import BROKEN, Numbers, Share, Tier
from cai_assets.evals.yes_no import Asked, ask_yes_no
from cai_assets.steps.complete import Step
from cai_assets.steps.questions import NoRequest, labeling_principles, tiers_of

RUBRIC = Step("rubric")

Kind = Literal["question", "check", "scored"]


class Part(BaseModel):
    """One reward of several: a principle's question, its check, or a reward model's score by the ``question`` that the
    principle compares by ('scored'). ``weight``: of its share in the sum, or of that in its ``tier``, where the
    principles of a reward have several priorities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    principle: str
    digest: str
    weight: float
    question: str | None = None
    check: Check | None = None
    gate: bool = False
    tier: Tier | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.principle}"

    @property
    def share(self) -> Share:
        return Share(self.weight, self.gate, self.tier, scored=self.kind == "scored")

    def counted(self) -> dict[str, Any]:
        """What of it decides a training. A tier is newer than the keys that hash this: absent where there is none."""
        return self.model_dump(mode="json", exclude=None if self.tier else {"tier"})


class Response(NamedTuple):
    """What is scored. ``principles``: whose questions are asked of it."""

    messages: Sequence[Message]
    text: str
    principles: Sequence[str]


Scorer = Callable[[Sequence[Response], Sequence[str]], list[list[float]]]
"""A reward model that reads principles: its score of each response by each of their texts."""


class Score(NamedTuple):
    """Of one response by one part, from 0 to 1 (of a reward model any number); None if it was not asked (``keys``
    empty) or could not be read."""

    value: float | None
    keys: tuple[str, ...] = ()
    error: str | None = None


def asked_of(constitution: Constitution) -> tuple[Principle, ...]:
    """The principles with a question about one answer, by id. Raise NoRequest if there is none."""
    found = tuple(sorted((p for p in constitution.principles if question_of(p)), key=lambda p: p.id))
    if not found:
        raise NoRequest(f"{constitution.name} {constitution.version}: no principle has a 'rubric' or a 'preference' "
                        "request, so no question can reward a response; add one to the constitution file")
    return found


def drawn(constitution: Constitution, prompt_ids: Sequence[str], few: int | None) -> list[list[str]]:
    """For each prompt the ids of the principles whose questions are asked of responses to it: ``few`` of them, or
    all."""
    principles = asked_of(constitution)
    if few is None or few >= len(principles):
        return [[p.id for p in principles]] * len(prompt_ids)
    return [sorted(p.id for p in draw_few(principles, label_key(prompt), few)) for prompt in prompt_ids]


def parts_of(constitution: Constitution, *, questions: bool, checks: float, few: int | None = None,
             scored: bool = False, undecided: float) -> tuple[Part, ...]:
    """The parts of a reward. Questions (or, where a reward model reads principles, its ``scored`` parts) share a weight
    of 1 and checks a weight of ``checks``, as the principles' weights say; where a ``few`` principles are drawn, the
    draw has taken the weights in already, and those few share 1 equally. Where these principles have several
    priorities, those of each share as much; ``undecided``: ``labels.undecided``.

    Raise NoRequest if questions are wanted and there are none, NoLanguages if a check cannot be decided here. Checks
    may be wanted where there are none: a version that lacks the one principle that has one is compared with that which
    has it.
    """
    found: list[tuple[Kind, Sequence[Principle], float]] = []
    drew = False
    if questions:
        asked = asked_of(constitution)
        drew = few is not None and few < len(asked)
        found.append(("question", asked, len(asked) / few if few is not None and drew else 1.0))
    if scored:
        found.append(("scored", labeling_principles(constitution), 1.0))
    if checks and (ruled := [constitution.principle(i) for i, _ in checked(constitution.principles)]):
        found.append(("check", ruled, checks))
    tiers = tiers_of([p for _, principles, _ in found for p in principles])
    return tuple(
        part for kind, principles, total in found
        for part in _shares(kind, principles, {p.id: 1.0 if drew and kind == "question" else p.weight
                                               for p in principles}, total, tiers, undecided))


def _shares(kind: Kind, principles: Sequence[Principle], weights: Mapping[str, float], total: float,
            tiers: Sequence[frozenset[str]], undecided: float) -> list[Part]:
    def part(p: Principle) -> Part:
        number = next((n for n, tier in enumerate(tiers, 1) if p.id in tier), None)
        beside = sum(w for i, w in weights.items() if number is None or i in tiers[number - 1])
        return Part(kind=kind, principle=p.id, weight=total * weights[p.id] / beside, **_asked_by(kind, p),
                    tier=None if number is None else Tier(number=number, undecided=undecided))

    return [part(p) for p in principles]


def _asked_by(kind: Kind, p: Principle) -> dict[str, Any]:
    """A score of a reward model compares responses and has no level that would break a gate."""
    match kind:
        case "scored":
            return {"digest": principle_digest(p, "preference"), "question": p.preference}
        case "question":
            return {"digest": reward_digest(p), "question": question_of(p), "gate": p.gate}
        case "check":
            return {"digest": reward_digest(p), "check": p.check, "gate": p.gate}
        case _:
            assert_never(kind)


def scores(responses: Sequence[Response], parts: Sequence[Part], *, ask: Ask, style: Style,
           model: Scorer | None = None) -> list[list[Score]]:
    """One score for each response and part, in order; all questions are sent together. ``model``: gives the 'scored'
    ones."""
    wanted = [(r, p) for r, response in enumerate(responses) for p, part in enumerate(parts)
              if part.kind == "question" and part.principle in response.principles]
    answers = ask_yes_no([Asked(responses[r].messages, responses[r].text, str(parts[p].question)) for r, p in wanted],
                         ask=ask, style=style)
    told = {at: Score(a.p_yes, a.keys, a.error) for at, a in zip(wanted, answers, strict=True)}
    read = [p for p, part in enumerate(parts) if part.kind == "scored"]
    if read and model:
        given = model(responses, [str(parts[p].question) for p in read])
        told |= {(r, p): Score(value) for r, row in enumerate(given) for p, value in zip(read, row, strict=True)}
    return [[Score(float(keeps(part.check, response.text))) if part.check else told.get((r, p), Score(None))
             for p, part in enumerate(parts)] for r, response in enumerate(responses)]


def table(found: Sequence[Sequence[Score]]) -> Numbers:
    """The scores as (responses, parts): NaN where none was asked. One that could not be read stands at the mean of its
    part, so that it neither rewards nor punishes."""
    values = np.array([[np.nan if s.value is None else s.value for s in row] for row in found], dtype=float)
    unread = np.array([[s.error is not None for s in row] for row in found], dtype=bool)
    for part in np.flatnonzero(unread.any(axis=0)) if unread.size else ():
        read = values[~np.isnan(values[:, part]), part]
        values[unread[:, part], part] = read.mean() if read.size else BROKEN
    return values
