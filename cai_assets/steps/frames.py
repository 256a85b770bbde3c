"""The prompt texts of critique and revision.

Two styles. ``chat``: the conversation goes on, a turn asks for the critique and another for the revision
(Bai et al. 2022, section 3.1). ``plain``: one text with fixed headings that the model continues; the only
style in which the 135M model of the smoke scale keeps the form (docs/experiments.md).
Few-shot examples come first in both, so that engines share their computation between rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cai_assets.constitution.model import Principle, RevisionShot
from cai_assets.engines.protocol import Call, Message, Sampling
from cai_assets.settings import Generation
from cai_assets.steps.compare import SPEAKERS

FIELDS = {"Question:": "prompt", "First answer:": "response", "Critique request:": "critique_request",
          "Critique:": "critique", "Revision request:": "revision_request", "Better answer:": "revision"}
HEADINGS = tuple(FIELDS)
DIRECT = ("Question:", "First answer:", "Revision request:", "Better answer:")
RULE = "====="


def critique_call(
    messages: Sequence[Message], response: str, principle: Principle, *,
    shots: Sequence[RevisionShot], style: str, generation: Generation,
) -> Call:
    """Ask for a critique of ``response`` by the principle's critique request."""
    return _call(messages, response, [str(principle.critique)], shots=shots, style=style, generation=generation)


def revision_call(
    messages: Sequence[Message], response: str, critique: str, principle: Principle, *,
    shots: Sequence[RevisionShot], style: str, generation: Generation,
) -> Call:
    """Ask for a revision of ``response`` that answers ``critique`` by the principle's revision request."""
    said = [str(principle.critique), critique, str(principle.revision)]
    return _call(messages, response, said, shots=shots, style=style, generation=generation)


def direct_revision_call(
    messages: Sequence[Message], response: str, principle: Principle, *,
    shots: Sequence[RevisionShot], style: str, generation: Generation,
) -> Call:
    """Ask for a revision of ``response`` without a critique (Bai et al. 2022, figure 7)."""
    return _call(messages, response, [str(principle.revision)], headings=DIRECT, shots=shots, style=style,
                 generation=generation)


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as text: the bare question if it has one turn, labeled turns otherwise."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{SPEAKERS[m['role']]}: {m['content']}" for m in messages)


def _call(
    messages: Sequence[Message], response: str, said: Sequence[str], *, headings: Sequence[str] = HEADINGS,
    shots: Sequence[RevisionShot], style: str, generation: Generation,
) -> Call:
    sampling = _sampling(style, generation.temperature, generation.top_p, generation.max_tokens)
    if style == "plain":
        own = _block(headings, [transcript(messages), response, *said])
        text = _example_blocks(tuple(shots), tuple(headings)) + own
        return Call(messages=({"role": "user", "content": text},), style="plain", sampling=sampling)
    system = [m for m in messages if m["role"] == "system"]  # templates take a system turn in the first place only
    turns = [turn for shot in shots for turn in _turns([getattr(shot, FIELDS[h]) for h in headings])]
    asked = [m for m in messages if m["role"] != "system"]
    return Call(messages=(*system, *turns, *asked, *_turns([response, *said], first="assistant")), sampling=sampling)


@lru_cache(maxsize=64, typed=True)
def _sampling(style: str, temperature: float, top_p: float, max_tokens: int) -> Sampling:
    stop = (f"\n{RULE}", *(f"\n{h}" for h in HEADINGS)) if style == "plain" else ()
    return Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, stop=stop)


@lru_cache(maxsize=64)  # every call of a constitution begins with the same ones
def _example_blocks(shots: tuple[RevisionShot, ...], headings: tuple[str, ...]) -> str:
    """The examples as text, each with the rule that parts it from what follows."""
    return "".join(f"{_block(headings, [getattr(s, FIELDS[h]) for h in headings])}\n{RULE}\n" for s in shots)


def _block(headings: Sequence[str], parts: Sequence[str]) -> str:
    """Parts under their headings, and the bare heading of the part that is to follow, if one is."""
    lines = [f"{heading} {part}" for heading, part in zip(headings, parts, strict=False)]
    return "\n".join([*lines, *headings[len(parts):len(parts) + 1]])


def _turns(parts: Sequence[str], *, first: str = "user") -> list[Message]:
    order = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": order[i % 2], "content": part} for i, part in enumerate(parts)]  # type: ignore[typeddict-item]
