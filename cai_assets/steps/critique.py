"""The critique and revision loop (Bai et al. 2022, section 3.1).

In each round a principle is drawn for the chain, the newest text is critiqued by it and revised. The draw
depends on the prompt and the round alone (weighted rendezvous hashing), so editing, adding or removing a
principle touches only the chains that drew it. Every round's critique and revision is a row: a chain whose
call failed ends there, one of which nothing is left to criticize stops there, and their later rounds are rows
that say so, in ``error`` or in ``stopped``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.draw import critique_key, draw
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Message
from cai_assets.settings import Critique, Generation, SettingsError
from cai_assets.steps.complete import Completer, Row, Step, Work
from cai_assets.steps.frames import critique_call, direct_revision_call, revision_call
from cai_assets.steps.tables import parts_of, whole
from cai_assets.steps.thoughts import NO_THOUGHT, thought_fields, thought_schema
from cai_assets.steps.verdict import VERDICT, p_done, verdict_call
from cai_assets.steps.why import for_critics
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.keys import row_id
from cai_assets.store.tables import Parts

CRITIQUE = Step("critique")
REVISION = Step("revision")
NOT_ASKED = "no critique: critique.mode is 'direct'"
ALONE = "no other chain is left whose critique it could answer"

READ = ("prompt_id", "messages", "response", "error", "row_id")
COLUMNS = {"prompt_id": pl.String, "round": pl.Int32, "principle_id": pl.String, "principle_digest": pl.String}
OUTCOME = {"finish": pl.String, "error": pl.String, "p_done": pl.Float64, "stopped": pl.String,
           "row_key": pl.String, "row_id": pl.String, "parent_id": pl.String}
CRITIQUES = {**COLUMNS, "critique": pl.String, **OUTCOME, "row_key_verdict": pl.String}
REVISIONS = {**COLUMNS, "before": pl.String, "critique_of": pl.String, "critique_id": pl.String,
             "revision": pl.String, **OUTCOME}
Fields = dict[str, object]
Round = tuple[Fields, Fields]  # the rows of its critique and its revision


@dataclass
class Chain:
    """One prompt on its way through the rounds. ``broken`` or ``stopped`` says why it ended: by a failure, or not."""

    prompt_id: str
    messages: list[Message]
    text: str
    row_id: str
    broken: str | None = None
    stopped: str | None = None

    @property
    def goes_on(self) -> bool:
        return self.broken is None and self.stopped is None

    def fail(self, number: int, why: object) -> None:
        """End it, unless it has ended already."""
        if self.goes_on:
            self.broken = f"round {number}: {why}"


def critique_and_revise(
    responses: pl.DataFrame, constitution: Constitution, *,
    complete: Completer, settings: Critique, generation: Generation, assigned: Mapping[str, Principle] | None = None,
) -> tuple[pl.DataFrame, ...]:
    """Critiques and revisions: one row for each response and round, in that order.

    ``responses`` needs prompt_id, messages, response, error, row_id. ``assigned``: the principle of each prompt in
    every round, in place of draws. Raise SettingsError if critiques are to be shuffled and there are fewer than two
    rows.
    """
    return whole(critiques_and_revisions(
        [responses.sort("prompt_id")], responses.height, constitution, complete=complete, settings=settings,
        generation=generation, assigned=assigned))


def critiques_and_revisions(
    responses: Parts, count: int, constitution: Constitution, *,
    complete: Completer, settings: Critique, generation: Generation, assigned: Mapping[str, Principle] | None = None,
) -> Iterator[tuple[pl.DataFrame, ...]]:
    """As ``critique_and_revise``, a part of both tables at a time, of ``count`` responses in the order of prompt_id."""
    if settings.shuffle and count < 2:
        raise SettingsError(f"critique.shuffle=true exchanges critiques between at least 2 red-team prompts, found "
                            f"{count}: raise prompts.red_team or set critique.shuffle=false")
    chains = (Chain(r["prompt_id"], r["messages"], r["response"] or "", r["row_id"],
                    None if r["response"] else f"no initial response: {r['error'] or 'empty'}")
              for part in responses for r in part.select(READ).iter_rows(named=True))
    loop = _Loop(for_critics(constitution, settings), settings, generation, assigned or {})
    schemas = [columns | thought_schema(complete) for columns in (CRITIQUES, REVISIONS)]
    if settings.shuffle:
        rounds = _exchanging(loop, [*chains], complete)
        return iter([tuple(table.sort("prompt_id", "round") for table in whole(parts_of(rounds, *schemas)))])
    # Every chain goes through its rounds whatever the others are doing.
    return parts_of(itertools.chain.from_iterable(complete.stream(
        map(loop.rounds, chains), what="critiques and revisions", count=count, asks=loop.asks)), *schemas)


def _exchanging(loop: _Loop, chains: Sequence[Chain], complete: Completer) -> list[Round]:
    """In each round a chain answers the critique of another, so that all critiques come first."""
    done: list[Round] = []
    for number in range(1, loop.settings.rounds + 1):
        said = complete.flow([loop.critique(chain, number) for chain in chains], what=f"critiques, round {number}",
                             asks=loop.asks)
        critiques = {str(turn.critique["prompt_id"]): turn.critique for turn in said}
        ring = partners(chains)
        works = [loop.revision(turn, _exchanged(turn.chain, number, ring, critiques)) for turn in said]
        revisions = complete.flow(works, what=f"revisions, round {number}")
        done += [(turn.critique, revision) for turn, revision in zip(said, revisions, strict=True)]
    return done


def partners(chains: Sequence[Chain]) -> dict[str, str]:
    """For each chain the one whose critique it answers in a shuffled round: a ring in the order of hashed prompt ids.

    Only a stopped chain leaves the ring; one that failed keeps its place, so that a repaired run asks the same calls.
    """
    ring = sorted((c.prompt_id for c in chains if c.stopped is None), key=lambda i: tagged_hash("shuffle", i))
    return dict(zip(ring, ring[1:] + ring[:1], strict=True)) if len(ring) > 1 else {}


def _exchanged(chain: Chain, number: int, ring: Mapping[str, str], critiques: Mapping[str, Fields]) -> Fields | None:
    """The critique that a chain answers; a chain that has none to answer ends."""
    if not chain.goes_on:
        return None
    of = ring.get(chain.prompt_id)
    if of is None:
        chain.stopped = f"round {number}: {ALONE}"
    elif critiques[of]["critique"] is None:
        chain.fail(number, f"the critique of {of}, which it was to answer: {critiques[of]['error']}")
    else:
        return critiques[of]
    return None


class Turn(NamedTuple):
    """One round of one chain, as far as its critique."""

    chain: Chain
    number: int
    principle: Principle
    verdict: Row | None
    critique: Fields


@dataclass
class _Loop:
    """What all chains share. ``assigned``: the principle of each prompt, in place of draws."""

    constitution: Constitution
    settings: Critique
    generation: Generation
    assigned: Mapping[str, Principle]

    def __post_init__(self) -> None:
        self.principles = self.constitution.taking_part("critique")
        self.shots = self.constitution.few_shots.revision if self.settings.few_shots else ()
        self.direct = self.settings.mode == "direct"

    @property
    def asks(self) -> int:
        """The most rows that a chain asks for."""
        return self.settings.rounds * (1 + (not self.direct) + (self.settings.stop_above is not None))

    def rounds(self, chain: Chain) -> Work[list[Round]]:
        done = []
        for number in range(1, self.settings.rounds + 1):
            turn = yield from self.critique(chain, number)
            answered = turn.critique if chain.goes_on and not self.direct else None
            done.append((turn.critique, (yield from self.revision(turn, answered))))
        return done

    def critique(self, chain: Chain, number: int) -> Work[Turn]:
        """The row of the round's critique, after a verdict where one is asked for."""
        principle = self.assigned.get(chain.prompt_id) or draw(self.principles, critique_key(chain.prompt_id, number))
        verdict = said = None
        if chain.goes_on and self.settings.stop_above is not None:
            verdict = yield VERDICT, verdict_call(chain.messages, chain.text, principle, shots=self.shots,
                                                  style=self.settings.style)
            _stop(chain, number, principle, verdict, self.settings.stop_above)
        if chain.goes_on and not self.direct:
            said = yield CRITIQUE, critique_call(chain.messages, chain.text, principle, shots=self.shots,
                                                 style=self.settings.style, generation=self.generation)
        turn = Turn(chain, number, principle, verdict, {})
        row = fields_of(turn, said, "critique")
        row["row_key_verdict"] = verdict.row_key if verdict else None
        if self.direct and chain.goes_on:
            row["stopped"] = NOT_ASKED
        elif row["critique"] is None:
            chain.fail(number, row["error"])
        return turn._replace(critique=row)

    def revision(self, turn: Turn, answered: Fields | None) -> Work[Fields]:
        """The row of the round's revision, with which the chain goes on. ``answered``: a critique, its own or not."""
        chain, own, revised = turn.chain, turn.critique, None
        if chain.goes_on:
            revised = yield REVISION, self._revision_call(chain, turn.principle, answered)
        before, chain.row_id = chain.text, str(own["row_id"])
        other = str(answered["row_id"]) if answered and answered is not own else None
        row = {**fields_of(turn, revised, "revision", [other] if other else []), "before": before,
               "critique_of": answered["prompt_id"] if answered else None, "critique_id": other}
        if row["revision"] is None:
            chain.fail(turn.number, row["error"])
        chain.text, chain.row_id = str(row["revision"] or ""), str(row["row_id"])
        return row

    def _revision_call(self, chain: Chain, principle: Principle, answered: Fields | None) -> Call:
        if answered is None:
            return direct_revision_call(chain.messages, chain.text, principle, shots=self.shots,
                                        style=self.settings.style, generation=self.generation)
        return revision_call(chain.messages, chain.text, str(answered["critique"]), principle, shots=self.shots,
                             style=self.settings.style, generation=self.generation)


def _stop(chain: Chain, number: int, principle: Principle, verdict: Row, above: float) -> None:
    """End the chain if nothing is left to criticize, or if that cannot be told."""
    if verdict.error:
        chain.fail(number, f"the verdict failed: {verdict.error}")
    p = p_done(verdict)
    if p is not None and p > above:
        chain.stopped = f"round {number}: nothing left to criticise (p={p:.2f}) by {principle.id}"


def fields_of(turn: Turn, row: Row | None, column: str, also: Sequence[str] = ()) -> Fields:
    """A row of a round. ``row``: its call, if there was one; ``also``: row ids of further parents, beside the chain's
    newest."""
    chain, principle = turn.chain, turn.principle
    text = row.text.strip() if row and row.text else None
    error = (row.error or (None if text else f"the {column} came out empty")) if row else chain.broken
    key = row.row_key if row else ""
    return {
        "prompt_id": chain.prompt_id, "round": turn.number, "principle_id": principle.id,
        "principle_digest": principle_digest(principle, "critique"), column: text or None,
        "finish": row.finish if row else "", "error": error, "p_done": p_done(turn.verdict) if turn.verdict else None,
        "stopped": chain.stopped, "row_key": key, **(thought_fields(row) if row else NO_THOUGHT),
        "row_id": row_id(key, text, [chain.row_id, str(turn.number), *also]), "parent_id": chain.row_id,
    }
