"""Which principle a row gets: weighted rendezvous hashing over principle ids.

Guarantees: a draw depends only on the key and on the ids and weights of the candidates. Editing a text or
reordering the file moves no row; adding a principle moves only the rows it wins; removing one moves only the
rows it had; changing one weight moves rows only to or from that principle. Shares are proportional to weights.

Method: Schindelhauer & Schomaker 2005, "Weighted distributed hash tables", the logarithmic method: the
candidate with the highest ``-weight / ln(u)`` wins, ``u`` uniform in (0, 1) by hashing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from cai_assets.constitution.model import Principle
from cai_assets.store.canonical import canonical_json


def draw(principles: Sequence[Principle], key: str) -> Principle:
    """The principle that wins ``key``. ValueError if there is none to draw from."""
    if not principles:
        raise ValueError("no principle to draw from: the constitution has none with a request for this use")
    rest = f"\0{key}".encode()
    _, _, winner = max([(_score(p, rest), p.id, i) for i, p in enumerate(principles)])
    return principles[winner]


def draw_few(principles: Sequence[Principle], key: str, n: int) -> list[Principle]:
    """The ``n`` principles that score highest on ``key``, the winner of ``draw`` first: weighted, none twice."""
    rest = f"\0{key}".encode()
    best = sorted(((_score(p, rest), p.id, i) for i, p in enumerate(principles)), reverse=True)[:n]
    return [principles[i] for _, _, i in best]


def draw_many(principles: Sequence[Principle], keys: Iterable[str]) -> list[Principle]:
    """``draw`` for each key, in order."""
    return [draw(principles, key) for key in keys]


def critique_key(prompt_id: str, round_: int) -> str:
    """The key of one round of critique and revision of one prompt; rounds draw independently."""
    return canonical_json(["critique", prompt_id, round_])


def label_key(pair_id: str) -> str:
    """The key of the label of one response pair."""
    return canonical_json(["label", pair_id])


def evaluation_key(prompt_id: str) -> str:
    """The key of one evaluation prompt: all policies are judged on it by the same principle."""
    return canonical_json(["evaluation", prompt_id])


def _score(p: Principle, rest: bytes) -> float:
    # An id holds no NUL, so id and key cannot run into each other. 52 bits and a half: u is never 0 or 1.
    bits = int.from_bytes(blake2b(p.id.encode() + rest, digest_size=8).digest(), "big") >> 12
    return -p.weight / math.log((bits + 0.5) / 2**52)
