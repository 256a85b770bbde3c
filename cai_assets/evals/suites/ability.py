"""Multiple choice, read by the exact log-probability of the letters: nothing is sampled and nothing parsed.

Small models favor a letter regardless of where the right answer is (Zheng et al. 2024, arXiv 2309.03882). So every
case is asked once per rotation of its choices, until each has been at each letter, and probabilities are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cai_assets.engines.protocol import Call, Message
from cai_assets.evals.suites.model import LETTERS, Case
from cai_assets.steps.complete import Row

ASK = "Give the letter of the right answer."
LEAD = "The right answer is ("


def ability_calls(case: Case, messages: Sequence[Message]) -> list[Call]:
    """A scoring call for each rotation: in the r-th, the first letter stands for choice r."""
    n = len(case.choices)
    return [_call(messages, [case.choices[(i + r) % n] for i in range(n)]) for r in range(n)]


def read_choice(case: Case, rows: Sequence[Row]) -> float | None:
    """1.0 if the right choice is the most probable one, 0.0 if not; None if a rotation failed."""
    n = len(case.choices)
    means = [0.0] * n
    for r, row in enumerate(rows):
        highest = max(row.logprobs, default=math.nan)
        if row.error is not None or len(row.logprobs) != n or not math.isfinite(highest):
            return None
        weights = [math.exp(x - highest) for x in row.logprobs]
        for i, weight in enumerate(weights):
            means[(i + r) % n] += weight / math.fsum(weights) / n
    return float(all(means[case.answer or 0] > p for i, p in enumerate(means) if i != case.answer))


def _call(messages: Sequence[Message], choices: Sequence[str]) -> Call:
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    question = Message(role="user", content=f"{messages[-1]['content']}\n\n{options}\n\n{ASK}")
    return Call(messages=(*messages[:-1], question, Message(role="assistant", content=LEAD)),
                answers=tuple(LETTERS[: len(choices)]))
