"""The prompt texts of critique and revision.

Two styles. ``chat``: the conversation goes on, a turn asks for the critique and another for the revision
(Bai et al. 2022, section 3.1). ``plain``: one text with fixed headings that the model continues; the only
style in which the 135M model of the smoke scale keeps the form (docs/experiments.md).
Few-shot examples come first in both, so that engines share their computation between rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from cai_assets.constitution.model import Principle, RevisionShot
from cai_assets.engines.protocol import Call, Message, Sampling
from cai_assets.settings import Generation
from cai_assets.steps.compare import SPEAKERS

HEADINGS = ("Question:", "First answer:", "Critique request:", "Critique:", "Revision request:", "Better answer:")
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


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as text: the bare question if it has one turn, labelled turns otherwise."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{SPEAKERS[m['role']]}: {m['content']}" for m in messages)


def _call(
    messages: Sequence[Message], response: str, said: Sequence[str], *,
    shots: Sequence[RevisionShot], style: str, generation: Generation,
) -> Call:
    stop = (f"\n{RULE}", *(f"\n{h}" for h in HEADINGS)) if style == "plain" else ()
    sampling = Sampling(temperature=generation.temperature, top_p=generation.top_p,
                        max_tokens=generation.max_tokens, stop=stop)
    if style == "plain":
        blocks = [_block([s.prompt, s.response, s.critique_request, s.critique, s.revision_request, s.revision])
                  for s in shots]
        text = f"\n{RULE}\n".join([*blocks, _block([transcript(messages), response, *said], unfinished=True)])
        return Call(messages=({"role": "user", "content": text},), style="plain", sampling=sampling)
    turns = [turn for s in shots for turn in _turns([s.prompt, s.response, s.critique_request, s.critique,
                                                     s.revision_request, s.revision])]
    return Call(messages=(*turns, *messages, *_turns([response, *said], first="assistant")), sampling=sampling)


def _block(parts: Sequence[str], *, unfinished: bool = False) -> str:
    lines = [f"{heading} {part}" for heading, part in zip(HEADINGS, parts, strict=False)]
    return "\n".join([*lines, HEADINGS[len(parts)]] if unfinished else lines)


def _turns(parts: Sequence[str], *, first: str = "user") -> list[Message]:
    order = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": order[i % 2], "content": part} for i, part in enumerate(parts)]  # type: ignore[typeddict-item]
