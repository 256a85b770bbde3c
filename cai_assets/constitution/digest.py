"""Which parts of a constitution count, and its partition key.

Guarantees: a digest changes if and only if something that can change an output changes (ids, weights, request
texts, few-shot examples). File layout, comments, the order of keys and principles, the constitution's
name and version label, and a principle's name, tags and source do not count. What is newer than the digest counts
where there is any, so that a constitution without it keeps its earlier digest: an ``evaluation`` request, an
example's ``reasons``, and a principle's ``rubric``, ``check``, ``gate``, ``why``, and ``priority`` below the first.
Of a document only the principles count that its clauses are compiled to: numbers, headings and examples do not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cai_assets.constitution.check import Check
from cai_assets.constitution.model import Constitution, Principle, Use
from cai_assets.store.canonical import tagged_hash

LONGEST_KEY = 100
OF_PREFERENCE = "A question by which answers are compared: {} Is this answer a good one by that question?"
REQUESTS: dict[Use, tuple[str, ...]] = {
    "critique": ("critique", "revision"), "preference": ("preference",), "evaluation": ("evaluation",)}
REWARDS = ("rubric", "check", "gate")  # what of a principle rewards without a comparison, where the settings ask for it
RANKED = ("why", "priority")  # what the settings may ask for: the reason in prompts, the tiers of a vote
# Newer than the digest: absent, rather than null, where there is none.
LATER = {**dict.fromkeys((*REQUESTS["evaluation"], "rubric", "check", "why")), "gate": False, "priority": 1}


def content(c: Constitution) -> dict[str, Any]:
    """Everything that counts, ready for canonical JSON: principles sorted by id, few-shots in file order."""
    requests = tuple(r for use in REQUESTS.values() for r in use)
    return {"principles": _principles(c.principles, (*requests, *REWARDS, *RANKED)),
            "few_shots": c.few_shots.model_dump(mode="json", exclude_none=True)}


def digest(c: Constitution) -> str:
    """``c1:<32 hex>`` over ``content``."""
    return tagged_hash("c1", content(c))


def part_digest(c: Constitution, use: Use) -> str:
    """Digest over what one use reads, so that an edit to labeling leaves the supervised half alone.

    Policies are judged without examples, so ``evaluation`` reads none.
    """
    shots = {"critique": c.few_shots.revision, "preference": c.few_shots.preference, "evaluation": ()}[use]
    part = {
        "use": use,
        "principles": _principles(c.taking_part(use), REQUESTS[use]),
        "few_shots": [s.model_dump(mode="json", exclude_none=True) for s in shots],
    }
    return tagged_hash("c1part", part)


@lru_cache(maxsize=4096)  # called once per row, for a few principles
def principle_digest(p: Principle, use: Use) -> str:
    """Digest over the id and the requests of one use: what a row made under ``p`` can depend on.

    The weight is left out: it decides which rows ``p`` gets, never what a row says.
    """
    return tagged_hash("c1principle", {"use": use, "id": p.id} | {f: getattr(p, f) for f in REQUESTS[use]})


@lru_cache(maxsize=4096)
def reward_digest(p: Principle) -> str:
    """Digest over the id and what a reward by ``p`` alone can depend on: its question and its check."""
    return tagged_hash("c1reward", {"id": p.id, "question": question_of(p), "check": _plain(p.check)})


def question_of(p: Principle) -> str | None:
    """The yes/no question by which one answer is judged: the ``rubric``, or one made of the ``preference``."""
    return p.rubric or (OF_PREFERENCE.format(p.preference) if p.preference else None)


def partition_key(c: Constitution) -> str:
    """``<name>-<version>-<8 hex of the digest>``; only ``[a-z0-9-]``. ValueError if over 100 characters."""
    key = f"{c.name}-{c.version}-{digest(c).partition(':')[2][:8]}"
    if len(key) > LONGEST_KEY:
        spare = LONGEST_KEY - len("-") * 2 - 8
        raise ValueError(f"name and version have {len(c.name) + len(c.version)} characters together but may have only "
                         f"{spare}: shorten the version or the file name")
    return key


def _principles(principles: tuple[Principle, ...], requests: tuple[str, ...]) -> list[dict[str, Any]]:
    fields = ("id", "weight", *requests)
    return [{f: _plain(getattr(p, f)) for f in fields if f not in LATER or getattr(p, f) != LATER[f]}
            for p in sorted(principles, key=lambda p: p.id)]


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_none=True) if isinstance(value, Check) else value
