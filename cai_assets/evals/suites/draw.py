"""Which cases of each suite are asked, and with which wording.

Guarantees: no case is asked whose text, bare or as it is asked, equals or nearly equals (``steps/prompt_near.py``) a
training prompt, and those left out are counted; the draw depends only on hashes of the cases, so that every policy,
version and seed gets the same ones, a higher limit only adds, and an added case or template displaces few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from cai_assets.engines.protocol import Message
from cai_assets.evals.suites.model import Case, Mode, Suite, Template
from cai_assets.steps.prompt_near import Near
from cai_assets.steps.prompt_rows import text_of
from cai_assets.store.canonical import digest_bytes, tagged_hash

TEXTS_AT_ONCE = 50_000


class Item(NamedTuple):
    """One case as it is asked in one mode. ``messages``: without the beginning of the answer (``prefill``)."""

    suite: Suite
    mode: Mode
    case: Case
    template: Template | None
    messages: tuple[Message, ...]

    @property
    def case_id(self) -> str:
        """Unique in a suite's mode, and the same for every policy."""
        return f"{self.case.case_id}~{self.template.id}" if self.template else self.case.case_id


@dataclass(frozen=True)
class Counts:
    """Counts of a suite's rows. ``asked``: items over all modes; ``in_training``: cases and wrappings left out."""

    cases: int
    asked: int
    in_training: int
    rejected: int
    skipped: int
    repeats: int


@dataclass(frozen=True)
class Drawn:
    """The items in the order of suites, modes and draws; ``counts`` by suite."""

    items: tuple[Item, ...]
    counts: dict[str, Counts]


def draw(suites: Sequence[Suite], training: Iterable[str], *, limit: int) -> Drawn:
    """At most ``limit`` items of each suite in each mode. ``training``: normalized texts of training prompts, which are
    gone through twice."""
    seen = near_training([c.text for s in suites for c in s.cases], training)
    drawn = {s.name: list(_items(s, [c for c in s.cases if c.text not in seen], limit)) for s in suites}
    wrapped = {_wording(i) for items in drawn.values() for i in items if i.template}
    near = near_training(sorted(wrapped), training)
    items, counts = list[Item](), dict[str, Counts]()
    for suite in suites:
        left = [i for i in drawn[suite.name] if not (i.template and _wording(i) in near)]
        repeated = {(i.case_id, i.template) for i in drawn[suite.name]} - {(i.case_id, i.template) for i in left}
        counts[suite.name] = Counts(
            cases=len(suite.cases), asked=len(left), rejected=len(suite.rejects), skipped=suite.skipped,
            repeats=suite.repeats, in_training=sum(c.text in seen for c in suite.cases) + len(repeated))
        items += left
    return Drawn(tuple(items), counts)


def near_training(texts: Sequence[str], training: Iterable[str]) -> set[str]:
    """Those of ``texts`` that are equal or nearly equal to one of ``training``; all are normalized."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return set()
    # Near texts differ in length by 1 : 0.74 at most: most training prompts are too short to be near a wrapped one.
    shortest, longest = min(map(len, distinct)) * 0.73, max(map(len, distinct)) / 0.73
    others = _once(t for t in training if shortest <= len(t) <= longest)
    near, some = set[str](), [*islice(others, TEXTS_AT_ONCE)]
    while some:
        more = [*islice(others, TEXTS_AT_ONCE)]
        if len(more) < TEXTS_AT_ONCE:  # a few would be compared in another way than many
            some, more = [*some, *more], []
        trained = np.array([False] * len(distinct) + [True] * len(some), dtype=bool)
        near |= {distinct[i] for i in Near([*distinct, *some]).across(trained)}
        some = more
    return near


def _once(texts: Iterable[str]) -> Iterator[str]:
    """Equal texts once, told by their digests."""
    seen = set[bytes]()
    for text in texts:
        digest = digest_bytes(text)
        if digest not in seen:
            seen.add(digest)
            yield text


def _items(suite: Suite, cases: Sequence[Case], limit: int) -> Iterator[Item]:
    """Plain and wrapped modes ask the same cases; a case is wrapped more than once where there are few of them."""
    drawn = sorted(cases, key=lambda c: tagged_hash("suite-case", [c.behaviour, c.prefill]))[:limit]
    for mode in suite.spec.asked_modes:
        how, _, safety = mode.partition("+")
        for case in drawn:
            templates = _templates(suite, case, limit // len(drawn)) if how == "wrapped" else [None]
            for template in templates:
                yield Item(suite, mode, case, template, _asked(suite, case, template, bool(safety)))


def _templates(suite: Suite, case: Case, each: int) -> list[Template]:
    """The case's own draw of ``each`` templates."""
    return sorted(suite.templates, key=lambda t: tagged_hash("suite-template", [case.behaviour, t.template]))[:each]


def _asked(suite: Suite, case: Case, template: Template | None, safety: bool) -> tuple[Message, ...]:
    turns = list(case.messages)
    if template:
        turns[-1] = Message(role="user", content=template.wrap(turns[-1]["content"]))
    if safety:
        system = turns.pop(0)["content"] if turns[0]["role"] == "system" else ""
        turns.insert(0, Message(role="system", content=f"{suite.spec.safety_prompt}\n\n{system}".strip()))
    return tuple(turns)


def _wording(item: Item) -> str:
    """The conversation as it is asked, normalized; a system turn does not count."""
    return text_of(item.messages)
