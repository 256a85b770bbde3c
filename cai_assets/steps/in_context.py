"""Answers with a principle in view, to be learned without it: context distillation (Askell et al. 2021, section 2.2).

The other arm of the supervised half: no critique and no revision. For each prompt and round a principle is drawn as the
critique loop draws it, and the model answers the prompt with this principle before it; training then sees the prompt
and the answer alone. Each answer is a row by itself, keyed by the texts that it had in view: an edited principle
changes the rows that drew it and no others, not even later rounds of the same prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, tee

import polars as pl

from cai_assets.constitution.draw import critique_key, draw
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Message, Sampling
from cai_assets.settings import Critique, Generation
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.critique import CRITIQUES, REVISIONS, Chain, Fields, Turn, fields_of
from cai_assets.steps.tables import parts_of, whole
from cai_assets.steps.thoughts import thought_schema
from cai_assets.steps.why import for_critics
from cai_assets.store.tables import Parts

IN_CONTEXT = Step("in_context")
NOT_ASKED = "no critique: sl.source is 'in_context'"
IN_VIEW = ("After your answer somebody will ask: {critique}\nIf anything is found, this will be asked of you: "
           "{revision}\nAnswer so that nothing is found and nothing has to be changed. Do not mention any of this.")


def answer_in_context(
    responses: pl.DataFrame, constitution: Constitution, *, complete: Completer, settings: Critique,
    generation: Generation,
) -> tuple[pl.DataFrame, ...]:
    """The tables of ``critique_and_revise`` with answers in the place of revisions; each critique says that none was
    asked for. ``responses`` needs prompt_id, messages, response; the response is only what an answer is compared with.
    """
    return whole(answers_in_context([responses.sort("prompt_id")], responses.height, constitution, complete=complete,
                                    settings=settings, generation=generation))


def answers_in_context(
    responses: Parts, count: int, constitution: Constitution, *, complete: Completer, settings: Critique,
    generation: Generation,
) -> Iterator[tuple[pl.DataFrame, ...]]:
    """The same, a part of both tables at a time, of ``count`` responses in the order of prompt_id."""
    principles = for_critics(constitution, settings).taking_part("critique")
    chains = (Chain(row["prompt_id"], row["messages"], row["response"] or "", row["prompt_id"])
              for part in responses for row in part.select("prompt_id", "messages", "response").iter_rows(named=True))
    asked, turns = tee(_turn(chain, number, principles) for chain in chains for number in range(1, settings.rounds + 1))
    rows = complete.each(IN_CONTEXT, _calls(asked, generation), count=count * settings.rounds,
                         what="answers in context")
    kept = thought_schema(complete)
    return parts_of(((turn.critique, _answer(turn, row)) for turn, row in zip(turns, rows, strict=True)),
                    CRITIQUES | kept, REVISIONS | kept)


def in_context_call(
    messages: Sequence[Message], principle: Principle, generation: Generation, *, sample: int = 0
) -> Call:
    """The conversation with the principle in its system turn, before what stands there already."""
    view = IN_VIEW.format(critique=principle.critique, revision=principle.revision)
    own = [m["content"] for m in messages if m["role"] == "system"]
    asked = [m for m in messages if m["role"] != "system"]
    sampling = Sampling(temperature=generation.temperature, top_p=generation.top_p, max_tokens=generation.max_tokens)
    return Call(messages=({"role": "system", "content": "\n\n".join([view, *own])}, *asked), sampling=sampling,
                sample=sample)


def _calls(turns: Iterable[Turn], generation: Generation) -> Iterator[Call]:
    """A principle that a prompt draws again is answered by another sample."""
    for _, own in groupby(turns, key=lambda turn: turn.chain.prompt_id):
        drawn = Counter[str]()
        for turn in own:
            yield in_context_call(turn.chain.messages, turn.principle, generation, sample=drawn[turn.principle.id])
            drawn[turn.principle.id] += 1


def _turn(chain: Chain, number: int, principles: Sequence[Principle]) -> Turn:
    turn = Turn(chain, number, draw(principles, critique_key(chain.prompt_id, number)), None, {})
    return turn._replace(critique={**fields_of(turn, None, "critique"), "row_key_verdict": None, "stopped": NOT_ASKED})


def _answer(turn: Turn, row: Row) -> Fields:
    """Its parent is the prompt: the first response was not in view."""
    return {**fields_of(turn, row, "revision"), "before": turn.chain.text or None, "critique_of": None,
            "critique_id": None}
