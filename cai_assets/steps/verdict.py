"""Whether anything is left to criticize: an exact probability that ends a chain of revisions early.

Guarantees: the probability is read from the model's answer tokens, never parsed from text; and content cannot imitate
the frame, whose lines start at column 0 while all content is indented (as in ``compare.py``). The examples are the
constitution's own revision examples: before the revision something was left, after it nothing was.
"""

from __future__ import annotations

from collections.abc import Sequence

from cai_assets.constitution.model import Principle, RevisionShot
from cai_assets.engines.protocol import Call, Message, Style
from cai_assets.steps.compare import SPEAKERS, asked, framed, p_first
from cai_assets.steps.complete import Row, Step

VERDICT = Step("verdict")
QUESTION = "By this request alone, is anything left to criticise in the assistant's last answer? Answer Yes or No."
LEAD = "Anything left to criticise: ("
ANSWERS = ("Yes", "No")


def verdict_call(
    messages: Sequence[Message], response: str, principle: Principle, *, shots: Sequence[RevisionShot], style: Style,
) -> Call:
    """A scoring call with the answers ('Yes', 'No'): does the principle leave anything to criticize in ``response``?"""
    examples = [example for shot in shots for example in _examples(shot)]
    question = _frame(messages, response, str(principle.critique))
    return Call(messages=asked(style, question, LEAD, examples), style=style, answers=ANSWERS)


def p_done(row: Row) -> float | None:
    """Probability that nothing is left, normalized over the two answers; None if it could not be read."""
    left = p_first(row.logprobs) if row.error is None and len(row.logprobs) == len(ANSWERS) else None
    return None if left is None else 1.0 - left


def _examples(shot: RevisionShot) -> list[tuple[str, str]]:
    prompt: list[Message] = [{"role": "user", "content": shot.prompt}]
    done = (_frame(prompt, shot.revision, shot.critique_request), f"{LEAD}No)")
    if shot.revision == shot.response:
        return [done]
    return [(_frame(prompt, shot.response, shot.critique_request), f"{LEAD}Yes)"), done]


def _frame(messages: Sequence[Message], response: str, request: str) -> str:
    return framed(messages, (SPEAKERS["assistant"], response), ("Request", request), ("Question", QUESTION))
