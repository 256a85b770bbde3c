"""The critique and revision loop (Bai et al. 2022, section 3.1).

In each round a principle is drawn for the chain, the newest text is critiqued by it and revised. The draw
depends on the prompt and the round alone (weighted rendezvous hashing), so editing, adding or removing a
principle touches only the chains that drew it. Every round's critique and revision is a row; a chain whose
call failed ends there, and its later rounds are rows that say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.draw import critique_key, draw
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Message
from cai_assets.lineage.keys import row_id
from cai_assets.settings import Critique, Generation
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.frames import critique_call, revision_call

CRITIQUE = Step("critique")
REVISION = Step("revision")

COLUMNS = {"prompt_id": pl.String, "round": pl.Int32, "principle_id": pl.String, "principle_digest": pl.String}
OUTCOME = {"finish": pl.String, "error": pl.String, "row_key": pl.String, "row_id": pl.String, "parent_id": pl.String}
CRITIQUES = {**COLUMNS, "critique": pl.String, **OUTCOME}
REVISIONS = {**COLUMNS, "before": pl.String, "revision": pl.String, **OUTCOME}


@dataclass
class Chain:
    """One prompt on its way through the rounds. ``broken`` says why it ended, or is None."""

    prompt_id: str
    messages: list[Message]
    text: str
    row_id: str
    broken: str | None = None


def critique_and_revise(
    responses: pl.DataFrame, constitution: Constitution, *,
    complete: Completer, settings: Critique, generation: Generation,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Critiques and revisions: one row for each response and round, in that order.

    ``responses`` needs prompt_id, messages, response, error, row_id.
    """
    chains = [Chain(r["prompt_id"], r["messages"], r["response"] or "", r["row_id"],
                    None if r["response"] else f"no initial response: {r['error'] or 'empty'}")
              for r in responses.sort("prompt_id").iter_rows(named=True)]
    critiques: list[dict[str, object]] = []
    revisions: list[dict[str, object]] = []
    for number in range(1, settings.rounds + 1):
        done = _round(number, chains, constitution, complete=complete, settings=settings, generation=generation)
        critiques += done[0]
        revisions += done[1]
    tables = (pl.DataFrame(critiques, schema=CRITIQUES), pl.DataFrame(revisions, schema=REVISIONS))
    return tables[0].sort("prompt_id", "round"), tables[1].sort("prompt_id", "round")


def _round(
    number: int, chains: Sequence[Chain], constitution: Constitution, *,
    complete: Completer, settings: Critique, generation: Generation,
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Run one round and move each chain on to its revision."""
    principles = constitution.taking_part("critique")
    drawn = {c.prompt_id: draw(principles, critique_key(c.prompt_id, number)) for c in chains}
    shots = constitution.few_shots.revision if settings.few_shots else ()

    def ask(step: Step, calls_for: Sequence[Chain], critique_of: dict[str, str] | None) -> dict[str, Row]:
        calls = [
            critique_call(c.messages, c.text, drawn[c.prompt_id], shots=shots, style=settings.style,
                          generation=generation)
            if critique_of is None else
            revision_call(c.messages, c.text, critique_of[c.prompt_id], drawn[c.prompt_id], shots=shots,
                          style=settings.style, generation=generation)
            for c in calls_for
        ]
        rows = complete(step, calls, what=f"{step.name} round {number}") if calls else []
        return {c.prompt_id: r for c, r in zip(calls_for, rows, strict=True)}

    critiqued = ask(CRITIQUE, [c for c in chains if c.broken is None], None)
    critique_rows = [_row(c, number, drawn[c.prompt_id], critiqued.get(c.prompt_id), "critique") for c in chains]
    texts = {str(r["prompt_id"]): str(r["critique"]) for r in critique_rows if r["critique"]}
    revised = ask(REVISION, [c for c in chains if c.prompt_id in texts], texts)
    revision_rows = []
    for chain, critique in zip(chains, critique_rows, strict=True):
        chain.broken = chain.broken or (None if critique["critique"] else f"round {number}: {critique['error']}")
        before, chain.row_id = chain.text, str(critique["row_id"])
        row = _row(chain, number, drawn[chain.prompt_id], revised.get(chain.prompt_id), "revision")
        revision_rows.append({**row, "before": before})
        chain.broken = chain.broken or (None if row["revision"] else f"round {number}: {row['error']}")
        chain.text, chain.row_id = str(row["revision"] or ""), str(row["row_id"])
    return critique_rows, revision_rows


def _row(chain: Chain, number: int, principle: Principle, row: Row | None, column: str) -> dict[str, object]:
    text = row.text.strip() if row and row.text else None
    error = (row.error or (None if text else f"the {column} came out empty")) if row else chain.broken
    key = row.row_key if row else ""
    return {
        "prompt_id": chain.prompt_id, "round": number, "principle_id": principle.id,
        "principle_digest": principle_digest(principle, "critique"), column: text,
        "finish": row.finish if row else "", "error": error, "row_key": key,
        "row_id": row_id(key, text, [chain.row_id, str(number)]), "parent_id": chain.row_id,
    }
