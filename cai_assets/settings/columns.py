"""Which column of a file holds what. One shape for every file of rows: prompts, answers, comparisons, suites."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Use = Literal["prompts", "conversations", "comparisons", "suites"]
Column = Annotated[str, StringConstraints(min_length=1, max_length=200)]

PROMPT = {"prompt", "system", "context", "id"}
ANSWERS = {"chosen", "rejected", "response_a", "response_b", "label", "p_chosen", "score_chosen", "score_rejected",
           "score_a", "score_b"}
READ: dict[Use, set[str]] = {
    "prompts": {*PROMPT, "kind", "category", "split"},
    "conversations": {*PROMPT, "response", "split"},
    "comparisons": {*PROMPT, "split", *ANSWERS},
    "suites": {*PROMPT, "category", "prefill", "choices", "answer"},
}


class Columns(BaseModel):
    """Which column of the file holds what; those left out are looked for under their usual names (docs/data.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: Column | None = None
    """The prompt, or the whole conversation."""
    system: Column | None = None
    """A system message."""
    context: Column | None = None
    """Text that belongs to the prompt."""
    id: Column | None = None
    """What names a row."""
    category: Column | None = None
    """The category of a prompt."""
    kind: Column | None = None
    """'red-team' or 'helpful'."""
    split: Column | None = None
    """'train' or 'evaluation'."""
    response: Column | None = None
    """The response."""
    chosen: Column | None = None
    """The better of two responses."""
    rejected: Column | None = None
    """The worse of two responses."""
    response_a: Column | None = None
    """The first of two responses."""
    response_b: Column | None = None
    """The second of two responses."""
    label: Column | None = None
    """Which of the two is better."""
    p_chosen: Column | None = None
    """Probability that the chosen one is better."""
    score_chosen: Column | None = None
    """Score of the chosen response."""
    score_rejected: Column | None = None
    """Score of the rejected response."""
    score_a: Column | None = None
    """Score of the first response."""
    score_b: Column | None = None
    """Score of the second response."""
    prefill: Column | None = None
    """How the answer begins."""
    choices: Column | None = None
    """The answers to choose from."""
    answer: Column | None = None
    """The right answer."""

    @cached_property
    def mapped(self) -> dict[str, str]:
        """The columns that are named, by what they hold."""
        return {field: name for field, name in self if name is not None}

    def unread(self, use: Use) -> list[str]:
        """Fields that are named and that a file of this use does not have."""
        return [field for field in self.mapped if field not in READ[use]]


NO_MAP = Columns()


def columns_field() -> Any:
    """A field for the map. Left out of what is written down where it says nothing: records know it from elsewhere."""
    return Field(default=NO_MAP, exclude_if=lambda columns: not columns.mapped)


def check(columns: Columns, use: Use, setting: str) -> Columns:
    """The same map; raise ValueError for a field that is not read there."""
    if unread := columns.unread(use):
        raise ValueError(f"{setting} has no '{unread[0]}': give {', '.join(sorted(READ[use]))}")
    return columns
