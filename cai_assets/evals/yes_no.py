"""A yes/no question about one answer, by exact probability and in both orders of the options.

Models favor the option that is named first or last, so the question is asked twice, with 'Yes or No' and with 'No
or Yes'. Guarantees: the probability is read from the model's answer tokens, never parsed from text; content cannot
imitate the frame, whose lines start at column 0 while all content is indented (as in ``steps/compare.py``); orders
that contradict each other are no verdict, and neither is one that failed: that is ungraded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from cai_assets.engines.protocol import Call, Message, Style
from cai_assets.evals.judge import Ask
from cai_assets.steps.compare import SPEAKERS, asked, framed, p_first
from cai_assets.steps.complete import Addressed, Completer, Row, Step, Work
from cai_assets.steps.following import together

ANSWERS = ("Yes", "No")
OPTIONS = ("Yes or No", "No or Yes")
LEAD = "The right answer is ("


class Asked(NamedTuple):
    """A question about the answer ``response`` to a conversation; without one, about its last message."""

    messages: Sequence[Message]
    response: str | None
    question: str


class YesNo(NamedTuple):
    """``p_yes``: probability of Yes against No, the mean over both orders; None, with ``error`` set, if one failed.

    ``orders``: the same from each order alone. ``keys``: the row keys of both.
    """

    p_yes: float | None
    orders: tuple[float | None, float | None]
    keys: tuple[str, str]
    error: str | None = None

    @property
    def word(self) -> Literal["yes", "no", "ungraded"]:
        """What both orders agree on; 'ungraded' if they contradict each other or could not be read."""
        first, second = self.orders
        if first is None or second is None or (first - 0.5) * (second - 0.5) <= 0:
            return "ungraded"
        return "yes" if first > 0.5 else "no"

    def __str__(self) -> str:
        if self.error:
            return f"the judge gave no answer: {self.error}"
        both = ", ".join(f"{p:.2f}" for p in self.orders if p is not None)
        text = "contradicts itself between its two orders" if self.word == "ungraded" else f"says {self.word}"
        return f"the judge {text} (p of Yes {both})"


def yes_no_calls(question: Asked, style: Style) -> tuple[Call, Call]:
    """The two scoring calls of one question, each with the answers ('Yes', 'No')."""
    first, second = (_call(question, options, style) for options in OPTIONS)
    return first, second


def ask_yes_no(questions: Sequence[Asked], *, ask: Ask, style: Style) -> list[YesNo]:
    """One answer per question, in order; all calls are sent together."""
    rows = ask([call for q in questions for call in yes_no_calls(q, style)]) if questions else []
    return [_read(first, second) for first, second in zip(rows[::2], rows[1::2], strict=True)]


def answering(
    question: Asked, *, complete: Completer, step: Step, style: Style, told: Callable[[YesNo], None]
) -> Iterator[Work[None]]:
    """The same of one question, as work. ``told`` is called with its answer."""
    asked = [Addressed(step, call, complete) for call in yes_no_calls(question, style)]
    return together(asked, lambda rows: told(_read(*rows)))


def _call(q: Asked, options: str, style: Style) -> Call:
    answer = [] if q.response is None else [(SPEAKERS["assistant"], q.response)]
    about = "the assistant's last answer" if answer else "the last message"
    frame = framed(q.messages, *answer, (f"Question about {about}", q.question), end=f"Answer {options}.")
    return Call(messages=asked(style, frame, LEAD), style=style, answers=ANSWERS)


def _read(first: Row, second: Row) -> YesNo:
    orders, keys = (_p(first), _p(second)), (first.row_key, second.row_key)
    if orders[0] is None or orders[1] is None:
        why = first.error or second.error or "the answers' probabilities could not be read"
        return YesNo(None, orders, keys, why)
    return YesNo((orders[0] + orders[1]) / 2, orders, keys)


def _p(row: Row) -> float | None:
    return p_first(row.logprobs) if row.error is None and len(row.logprobs) == len(ANSWERS) else None
