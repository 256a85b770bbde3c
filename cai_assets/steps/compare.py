"""The one way to ask a model which of two answers is better; labels and judges share it.

Guarantees: the text ends right before the letter, so that 'A' or 'B' is the next token; and content cannot imitate
the frame. Frame lines start at column 0, every line of content (of rows, requests and examples alike) is indented
by four spaces, and whatever Unicode counts as a line break counts as one here. Text that pretends to be an
'Answer (B):' or a verdict therefore stands where no frame line can stand. The labeler's own reasons are content too.
This stops imitation, not persuasion: a judge may still be talked round by what an answer says
(``evals/injection.py`` measures it).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import lru_cache

from cai_assets.constitution.model import PreferenceShot
from cai_assets.engines.protocol import Call, Message, Sampling, Style

INDENT = "    "
VERDICT = "The better answer is ("
REASONS = "Let us think step by step:"
ANSWERS = ("A", "B")
SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}


def comparison_call(
    prompt_messages: Sequence[Message],
    a: str,
    b: str,
    *,
    request: str,
    style: Style,
    few_shots: Sequence[PreferenceShot] = (),
    thought: str | None = None,
) -> Call:
    """A scoring call with the answers ('A', 'B'): which of ``a`` and ``b`` answers the conversation better?

    The order of parts is that of Bai et al. 2022, section 4.1: conversation, principle, options. 'plain' is one text
    to continue; 'chat' gives each example as a turn and prefills the verdict. ``thought``: the labeler's reasons,
    after which the verdict is read; the examples then show theirs, and those without any are left out.
    """
    question = _frame(prompt_messages, a, b, request)
    shots = _shots(tuple(few_shots), thoughtful=thought is not None)
    return Call(messages=asked(style, question, f"{_reasons(thought)}{VERDICT}", shots), style=style, answers=ANSWERS)


def thought_call(
    prompt_messages: Sequence[Message], a: str, b: str, *, request: str, style: Style, sampling: Sampling, sample: int,
    few_shots: Sequence[PreferenceShot] = (),
) -> Call:
    """A generating call for the reasons before the verdict (Bai et al. 2022, section 4.1; the wording is ours).

    Of the examples those with reasons are shown: one without would teach the labeler to give none.
    """
    shots = _shots(tuple(few_shots), thoughtful=True)
    messages = asked(style, _frame(prompt_messages, a, b, request), REASONS, shots)
    stops = (f"\n{VERDICT}",) if style == "chat" else (f"\n{VERDICT}", "\nConversation\n")
    return Call(messages=messages, style=style, sampling=sampling.model_copy(update={"stop": stops}), sample=sample)


def p_first(logprobs: Sequence[float]) -> float | None:
    """Probability of the first of two answers, normalized over the two; None if the model rules out both."""
    first, second = logprobs
    p = 0.5 * (1 + math.tanh((first - second) / 2))  # the logistic function, without overflow
    return None if math.isnan(p) else p


def fence(text: str) -> str:
    """Indent every line, so that no line of ``text`` can pass for a line of the frame."""
    return "\n".join(INDENT + line for line in text.splitlines() or [""])


def framed(messages: Sequence[Message], *parts: tuple[str, str], end: str = "") -> str:
    """A conversation and what is asked of it, each part fenced under its name. ``end``: a line after them."""
    named = [*((SPEAKERS[m["role"]], m["content"]) for m in messages), *parts]
    return "\n\n".join(["Conversation", *(f"{name}:\n{fence(text)}" for name, text in named), *filter(None, [end])])


def asked(style: Style, frame: str, lead: str, shots: Sequence[tuple[str, str]] = ()) -> tuple[Message, ...]:
    """The messages of a call that ends in ``lead``, right before the answer. ``shots``: frames with their answers."""
    return _chat(shots, frame, lead) if style == "chat" else _plain(shots, frame, lead)


def _frame(messages: Sequence[Message], a: str, b: str, request: str) -> str:
    return framed(messages, ("Question", request), ("Answer (A)", a), ("Answer (B)", b))


@lru_cache(maxsize=64)  # every call of a constitution begins with the same ones
def _shots(few_shots: tuple[PreferenceShot, ...], *, thoughtful: bool) -> tuple[tuple[str, str], ...]:
    """Frame and answer of each example that fits."""
    return tuple((_frame([{"role": "user", "content": s.prompt}], s.a, s.b, s.request),
                  f"{_reasons(s.reasons if thoughtful else None)}{VERDICT}{s.choice})")
                 for s in few_shots if s.reasons or not thoughtful)


def _reasons(text: str | None) -> str:
    return "" if text is None else f"{REASONS}\n{fence(textwrap.dedent(text).strip())}\n\n"


def _plain(shots: Sequence[tuple[str, str]], question: str, lead: str) -> tuple[Message, ...]:
    examples = [f"{frame}\n\n{answer}" for frame, answer in shots]
    return ({"role": "user", "content": "\n\n\n".join([*examples, f"{question}\n\n{lead}"])},)


def _chat(shots: Sequence[tuple[str, str]], question: str, lead: str) -> tuple[Message, ...]:
    turns: list[Message] = []
    for frame, answer in shots:
        turns += [{"role": "user", "content": frame}, {"role": "assistant", "content": answer}]
    return (*turns, {"role": "user", "content": question}, {"role": "assistant", "content": lead})
