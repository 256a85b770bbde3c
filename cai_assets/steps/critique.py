"""The critique and revision loop (Bai et al. 2022, section 3.1).

In each round a principle is drawn for the chain, the newest text is critiqued by it and revised. The draw
depends on the prompt and the round alone (weighted rendezvous hashing), so editing, adding or removing a
principle touches only the chains that drew it. Every round's critique and revision is a row: a chain whose
call failed ends there, one of which nothing is left to criticize stops there, and their later rounds are rows
that say so, in ``error`` or in ``stopped``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.draw import critique_key, draw
from cai_assets.constitution.model import Constitution, Principle, RevisionShot
from cai_assets.engines.protocol import Call, Message
from cai_assets.settings import Critique, Generation, SettingsError
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.frames import critique_call, direct_revision_call, revision_call
from cai_assets.steps.verdict import VERDICT, p_done, verdict_call
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.keys import row_id

CRITIQUE = Step("critique")
REVISION = Step("revision")
NOT_ASKED = "no critique: critique.mode is 'direct'"
ALONE = "no other chain is left whose critique it could answer"

COLUMNS = {"prompt_id": pl.String, "round": pl.Int32, "principle_id": pl.String, "principle_digest": pl.String}
OUTCOME = {"finish": pl.String, "error": pl.String, "p_done": pl.Float64, "stopped": pl.String,
           "row_key": pl.String, "row_id": pl.String, "parent_id": pl.String}
CRITIQUES = {**COLUMNS, "critique": pl.String, **OUTCOME, "row_key_verdict": pl.String}
REVISIONS = {**COLUMNS, "before": pl.String, "critique_of": pl.String, "critique_id": pl.String,
             "revision": pl.String, **OUTCOME}
Fields = dict[str, object]


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
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Critiques and revisions: one row for each response and round, in that order.

    ``responses`` needs prompt_id, messages, response, error, row_id. ``assigned``: the principle of each prompt in
    every round, in place of draws. Raise SettingsError if critiques are to be shuffled and there are fewer than two
    rows.
    """
    chains = [Chain(r["prompt_id"], r["messages"], r["response"] or "", r["row_id"],
                    None if r["response"] else f"no initial response: {r['error'] or 'empty'}")
              for r in responses.sort("prompt_id").iter_rows(named=True)]
    if settings.shuffle and len(chains) < 2:
        raise SettingsError(f"critique.shuffle=true exchanges critiques between at least 2 red-team prompts, found "
                            f"{len(chains)}: raise prompts.red_team or set critique.shuffle=false")
    critiques: list[Fields] = []
    revisions: list[Fields] = []
    for number in range(1, settings.rounds + 1):
        done = _Round(number, chains, constitution, complete, settings, generation, assigned).run()
        critiques += done[0]
        revisions += done[1]
    return _table(critiques, CRITIQUES), _table(revisions, REVISIONS)


def _table(rows: Sequence[Fields], schema: Mapping[str, Any]) -> pl.DataFrame:
    columns = {name: [row[name] for row in rows] for name in schema}  # several times as fast as from the rows
    return pl.DataFrame(columns, schema=schema).sort("prompt_id", "round")


def partners(chains: Sequence[Chain]) -> dict[str, str]:
    """For each chain the one whose critique it answers in a shuffled round: a ring in the order of hashed prompt ids.

    Only a stopped chain leaves the ring; one that failed keeps its place, so that a repaired run asks the same calls.
    """
    ring = sorted((c.prompt_id for c in chains if c.stopped is None), key=lambda i: tagged_hash("shuffle", i))
    return dict(zip(ring, ring[1:] + ring[:1], strict=True)) if len(ring) > 1 else {}


class _Round:
    """One round over all chains; ``run`` moves each on to its revision."""

    def __init__(self, number: int, chains: Sequence[Chain], constitution: Constitution, complete: Completer,
                 settings: Critique, generation: Generation, assigned: Mapping[str, Principle] | None) -> None:
        self.number, self.chains, self.settings, self.generation = number, chains, settings, generation
        self.complete = complete
        self.shots: Sequence[RevisionShot] = constitution.few_shots.revision if settings.few_shots else ()
        principles = constitution.taking_part("critique")
        self.drawn = assigned or {c.prompt_id: draw(principles, critique_key(c.prompt_id, number)) for c in chains}
        self.verdicts: dict[str, Row] = {}

    def run(self) -> tuple[list[Fields], list[Fields]]:
        if self.settings.stop_above is not None:
            self._stop(self.settings.stop_above)
        critiques = self._critiques()
        return critiques, self._revisions({str(row["prompt_id"]): row for row in critiques})

    def _stop(self, above: float) -> None:
        self.verdicts = self._ask(VERDICT, [c for c in self.chains if c.goes_on], lambda c, p: verdict_call(
            c.messages, c.text, p, shots=self.shots, style=self.settings.style))
        for chain in self.chains:
            row = self.verdicts.get(chain.prompt_id)
            if row and row.error:
                chain.fail(self.number, f"the verdict failed: {row.error}")
            p = p_done(row) if row else None
            if p is not None and p > above:
                principle = self.drawn[chain.prompt_id].id
                chain.stopped = f"round {self.number}: nothing left to criticise (p={p:.2f}) by {principle}"

    def _critiques(self) -> list[Fields]:
        direct = self.settings.mode == "direct"
        asked = [] if direct else [c for c in self.chains if c.goes_on]
        said = self._ask(CRITIQUE, asked, lambda c, p: critique_call(
            c.messages, c.text, p, shots=self.shots, style=self.settings.style, generation=self.generation))
        rows = []
        for chain in self.chains:
            row = self._row(chain, said.get(chain.prompt_id), "critique")
            verdict = self.verdicts.get(chain.prompt_id)
            row["row_key_verdict"] = verdict.row_key if verdict else None
            if direct and chain.goes_on:
                row["stopped"] = NOT_ASKED
            elif row["critique"] is None:
                chain.fail(self.number, row["error"])
            rows.append(row)
        return rows

    def _revisions(self, critiques: dict[str, Fields]) -> list[Fields]:
        answers = self._answers(critiques)
        revised = self._ask(REVISION, [c for c in self.chains if c.goes_on], lambda c, p: (
            self._revision_call(c, p, answers.get(c.prompt_id))))
        rows = []
        for chain in self.chains:
            own, used = critiques[chain.prompt_id], answers.get(chain.prompt_id)
            before, chain.row_id = chain.text, str(own["row_id"])
            other = str(used["row_id"]) if used and used is not own else None
            row = self._row(chain, revised.get(chain.prompt_id), "revision", [other] if other else [])
            rows.append({**row, "before": before, "critique_of": used["prompt_id"] if used else None,
                         "critique_id": other})
            if row["revision"] is None:
                chain.fail(self.number, row["error"])
            chain.text, chain.row_id = str(row["revision"] or ""), str(row["row_id"])
        return rows

    def _answers(self, critiques: dict[str, Fields]) -> dict[str, Fields]:
        """The critique that each chain answers; a chain that has none to answer ends."""
        if self.settings.mode == "direct":
            return {}
        ring = partners(self.chains) if self.settings.shuffle else {i: i for i in critiques}
        answers = {}
        for chain in (c for c in self.chains if c.goes_on):
            of = ring.get(chain.prompt_id)
            if of is None:
                chain.stopped = f"round {self.number}: {ALONE}"
            elif critiques[of]["critique"] is None:
                chain.fail(self.number, f"the critique of {of}, which it was to answer: {critiques[of]['error']}")
            else:
                answers[chain.prompt_id] = critiques[of]
        return answers

    def _revision_call(self, chain: Chain, principle: Principle, answered: Fields | None) -> Call:
        if answered is None:
            return direct_revision_call(chain.messages, chain.text, principle, shots=self.shots,
                                        style=self.settings.style, generation=self.generation)
        return revision_call(chain.messages, chain.text, str(answered["critique"]), principle, shots=self.shots,
                             style=self.settings.style, generation=self.generation)

    def _ask(self, step: Step, chains: Sequence[Chain], call: Callable[[Chain, Principle], Call]) -> dict[str, Row]:
        calls = [call(c, self.drawn[c.prompt_id]) for c in chains]
        rows = self.complete(step, calls, what=f"{step.name} round {self.number}") if calls else []
        return {c.prompt_id: row for c, row in zip(chains, rows, strict=True)}

    def _row(self, chain: Chain, row: Row | None, column: str, also: Sequence[str] = ()) -> Fields:
        """``also``: row ids of further parents, beside the chain's newest."""
        text = row.text.strip() if row and row.text else None
        error = (row.error or (None if text else f"the {column} came out empty")) if row else chain.broken
        key, principle = row.row_key if row else "", self.drawn[chain.prompt_id]
        verdict = self.verdicts.get(chain.prompt_id)
        return {
            "prompt_id": chain.prompt_id, "round": self.number, "principle_id": principle.id,
            "principle_digest": principle_digest(principle, "critique"), column: text or None,
            "finish": row.finish if row else "", "error": error, "p_done": p_done(verdict) if verdict else None,
            "stopped": chain.stopped, "row_key": key,
            "row_id": row_id(key, text, [chain.row_id, str(self.number), *also]), "parent_id": chain.row_id,
        }
