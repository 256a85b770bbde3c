"""The one way to ask a model which of two answers is better; labels and judges share it.

Guarantees: the text ends right before the letter, so that 'A' or 'B' is the next token; and content cannot imitate
the frame. Frame lines start at column 0, every line of content (of rows, requests and examples alike) is indented
by four spaces, and whatever Unicode counts as a line break counts as one here. Text that pretends to be an
'Answer (B):' or a verdict therefore stands where no frame line can stand. The labeller's own reasons are content too.
This stops imitation, not persuasion: a judge may still be talked round by what an answer says
(``evals/injection.py`` measures it).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

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
    to continue; 'chat' gives each example as a turn and prefills the verdict. ``thought``: the labeller's reasons,
    after which the verdict is read.
    """
    shots = [(_frame([{"role": "user", "content": s.prompt}], s.a, s.b, s.request), s.choice) for s in few_shots]
    question = _frame(prompt_messages, a, b, request)
    build = _chat if style == "chat" else _plain
    reasons = "" if thought is None else f"{REASONS}\n{fence(textwrap.dedent(thought).strip())}\n\n"
    return Call(messages=build(shots, question, f"{reasons}{VERDICT}"), style=style, answers=ANSWERS)


def thought_call(
    prompt_messages: Sequence[Message], a: str, b: str, *, request: str, style: Style, sampling: Sampling, sample: int
) -> Call:
    """A generating call for the reasons before the verdict (Bai et al. 2022, section 4.1; the wording is ours)."""
    messages = (_chat if style == "chat" else _plain)((), _frame(prompt_messages, a, b, request), REASONS)
    stops = (f"\n{VERDICT}",) if style == "chat" else (f"\n{VERDICT}", "\nConversation\n")
    return Call(messages=messages, style=style, sampling=sampling.model_copy(update={"stop": stops}), sample=sample)


def p_first(logprobs: Sequence[float]) -> float | None:
    """Probability of the first of two answers, normalised over the two; None if the model rules out both."""
    first, second = logprobs
    p = 0.5 * (1 + math.tanh((first - second) / 2))  # the logistic function, without overflow
    return None if math.isnan(p) else p


def fence(text: str) -> str:
    """Indent every line, so that no line of ``text`` can pass for a line of the frame."""
    return "\n".join(INDENT + line for line in text.splitlines() or [""])


def _frame(messages: Sequence[Message], a: str, b: str, request: str) -> str:
    turns = [(SPEAKERS[m["role"]], m["content"]) for m in messages]
    parts = [*turns, ("Question", request), ("Answer (A)", a), ("Answer (B)", b)]
    return "\n\n".join(["Conversation", *(f"{name}:\n{fence(text)}" for name, text in parts)])


def _plain(shots: Sequence[tuple[str, str]], question: str, lead: str) -> tuple[Message, ...]:
    examples = [f"{frame}\n\n{VERDICT}{choice})" for frame, choice in shots]
    return ({"role": "user", "content": "\n\n\n".join([*examples, f"{question}\n\n{lead}"])},)


def _chat(shots: Sequence[tuple[str, str]], question: str, lead: str) -> tuple[Message, ...]:
    turns: list[Message] = []
    for frame, choice in shots:
        turns += [{"role": "user", "content": frame}, {"role": "assistant", "content": f"{VERDICT}{choice})"}]
    return (*turns, {"role": "user", "content": question}, {"role": "assistant", "content": lead})
