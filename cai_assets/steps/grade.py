"""The labeler's own grade of one response, as the reward of direct-RLAIF (Lee et al. 2023, arXiv 2309.00267,
section 3.2.2).

Framed and fenced as comparisons are (``steps/compare.py``): the text ends right before the grade, and no line of
content can stand where a line of the frame stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cai_assets.engines.protocol import Call, Message, Style
from cai_assets.steps.compare import asked, framed

GRADES = tuple("123456789")
SCALE = ("How well does the answer do on this question? Grade it from 1 to 9: 1 is as bad as an answer can be, 9 as "
         "good as it can be.")
VERDICT = "The grade from 1 to 9 is ("


def grade_call(messages: Sequence[Message], response: str, request: str, style: Style) -> Call:
    """A scoring call with the answers '1' to '9': how good is ``response`` by ``request``?"""
    frame = framed(messages, ("Question", request), ("Answer", response), end=SCALE)
    return Call(messages=asked(style, frame, VERDICT), style=style, answers=GRADES)


def expected_grade(logprobs: Sequence[float]) -> float | None:
    """The mean grade under the probabilities of the nine, scaled to [-1, 1]; None if none of them is possible."""
    highest = max(logprobs)
    if not math.isfinite(highest):
        return None
    weights = [math.exp(x - highest) for x in logprobs]
    mean = math.fsum(w * int(g) for w, g in zip(weights, GRADES, strict=True)) / math.fsum(weights)
    return (mean - 5) / 4
