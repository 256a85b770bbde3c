"""Thoughts beside answers: two columns of the tables whose texts a model wrote that keeps its thoughts.

Nothing that reads an answer reads them: they are shown, counted, and trained on as ``supervised.thoughts`` says.
"""

from __future__ import annotations

import polars as pl

from cai_assets.engines.thoughts import UNCLOSED
from cai_assets.steps.complete import Completer, Row

THOUGHT, STATE = "thought", "thought_state"
STATES = ("none", "valid", "empty", "repeated", "unclosed")


NO_THOUGHT: dict[str, str | None] = {THOUGHT: None, STATE: None}


def thought_schema(complete: Completer) -> dict[str, type[pl.DataType]]:
    """The columns of a model that keeps its thoughts; none of one that does not."""
    return dict.fromkeys(NO_THOUGHT, pl.String) if complete.engine.identity.keeps_thoughts else {}


def thought_fields(row: Row) -> dict[str, str | None]:
    """A row's values for these columns. A thought that did not end failed its row, as 'unclosed'; other failures have
    no state."""
    return {THOUGHT: row.thought or None, STATE: state_of(row)}


def state_of(row: Row) -> str | None:
    """What became of a row's thought."""
    return row.thought_state or ("unclosed" if UNCLOSED in (row.error or "") else None)
