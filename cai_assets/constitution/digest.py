"""Which parts of a constitution count, and its partition key.

Guarantees: a digest changes if and only if something that can change an output changes (ids, weights, request
texts, few-shot examples). File layout, comments, the order of keys and principles, the constitution's
name and version label, and a principle's name, tags and source do not count. An ``evaluation`` request and an
example's ``reasons`` count where there are any: a constitution without them keeps its earlier digest.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cai_assets.constitution.model import Constitution, Principle, Use
from cai_assets.store.canonical import tagged_hash

LONGEST_KEY = 100
REQUESTS: dict[Use, tuple[str, ...]] = {
    "critique": ("critique", "revision"), "preference": ("preference",), "evaluation": ("evaluation",)}
LATER = REQUESTS["evaluation"]  # newer than the digest: absent rather than null where there is none


def content(c: Constitution) -> dict[str, Any]:
    """Everything that counts, ready for canonical JSON: principles sorted by id, few-shots in file order."""
    requests = tuple(r for use in REQUESTS.values() for r in use)
    return {"principles": _principles(c.principles, requests),
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
    return [{f: getattr(p, f) for f in fields if f not in LATER or getattr(p, f) is not None}
            for p in sorted(principles, key=lambda p: p.id)]
