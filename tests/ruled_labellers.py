"""Labelers that answer by rule, so that the right probability is known."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

from cai_assets.engines.protocol import Call, Request
from cai_assets.engines.scripted import Scripted
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

Rule = Callable[[str, str, str], float]  # (question, answer A, answer B) -> probability of the letter A


def parts(call: Call) -> tuple[str, str, str]:
    """Question, answer (A) and answer (B), read from the frame lines alone."""
    text = "\n".join(m["content"] for m in call.messages)
    found = re.findall(r"^(Question|Answer \(A\)|Answer \(B\)):\n((?: {4}.*\n?)+)", text[text.rindex("\nQuestion:\n"):],
                       re.MULTILINE)
    question, a, b = ("\n".join(line[4:] for line in body.strip("\n").split("\n")) for _, body in found)
    return question, a, b


def labeller(rule: Rule, *, fail: Callable[[str], bool] | None = None) -> Scripted:
    """Follows ``rule`` exactly, with a tenth of the mass on other tokens; its reasons say nothing."""
    def score(call: Call, _: Request) -> tuple[float, float]:
        p = rule(*parts(call))
        return (math.log(0.9 * p) if p else -math.inf, math.log(0.9 * (1 - p)) if p < 1 else -math.inf)

    return Scripted("labeller", score=score, reply=lambda _, request: f"Reasons, sample {request.seed}.", fail=fail)


def completer(root: Path, engine: object) -> Completer:
    return Completer(engine, RowStore(Layout(root)), seed=0)  # type: ignore[arg-type]


def prefers(word: str, p: float = 0.8) -> Rule:
    """The answer with ``word`` wins with probability ``p``, wherever it stands."""
    return lambda _, a, b: 0.5 + (p - 0.5) * ((word in a) - (word in b))
