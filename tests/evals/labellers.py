"""Labelers whose agreement with people is known, as rules for the scripted engine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from judges import parts

from cai_assets.engines.protocol import Call, Request
from cai_assets.engines.scripted import Scripted

Score = Callable[[Call, Request], tuple[float, ...]]


def write_comparisons(path: Path, n: int) -> Path:
    """A file of comparisons whose right answer can be read from the text."""
    rows = [{"prompt": f"Question {i}?", "chosen": f"good answer {i}", "rejected": f"bad answer {i}"} for i in range(n)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def right_in(share: float, *, sure: float = 0.8) -> Score:
    """Right, in both orders, for about ``share`` of the comparisons, with the probability ``sure`` each time."""

    def score(call: Call, _: Request) -> tuple[float, ...]:
        _, a, b = parts(call)
        number = (a if "good" in a else b).split()[-1]
        right = int.from_bytes(blake2b(number.encode(), digest_size=8).digest(), "big") / 2**64 < share
        p = sure if ("good" in a) == right else 1 - sure
        return math.log(p), math.log(1 - p)

    return score


def first_place(call: Call, _: Request) -> tuple[float, ...]:
    return math.log(0.8), math.log(0.2)


def nothing_readable(call: Call, _: Request) -> tuple[float, ...]:
    raise ValueError("no letter can be read")


def scripted(score: Score) -> Scripted:
    return Scripted(score=score)
