"""What model calls cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cai_assets.steps.complete import Row


@dataclass
class Usage:
    """What calls cost. Tokens and seconds count generated rows only: reused ones cost nothing. ``refused``: of those
    that failed; ``errors``, ``adapted``: reasons, with the number of calls of each; ``servers``: how fast each was."""

    reused: int = 0
    generated: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    adapted: dict[str, int] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)

    def count(self, row: Row) -> None:
        setattr(self, row.status, getattr(self, row.status) + 1)
        self.refused += row.refused
        if row.status == "generated":
            self.prompt_tokens += row.prompt_tokens
            self.completion_tokens += row.completion_tokens
        if row.error:
            _add(self.errors, {row.error[:160]: 1})
        _add(self.adapted, dict.fromkeys(row.adapted, 1))


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of several steps' usage."""
    summed = Usage()
    for usage in usages:
        for name in ("reused", "generated", "failed", "refused", "prompt_tokens", "completion_tokens", "seconds"):
            setattr(summed, name, getattr(summed, name) + getattr(usage, name))
        _add(summed.errors, usage.errors)
        _add(summed.adapted, usage.adapted)
        summed.servers |= usage.servers
    return summed


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for reason, n in more.items():
        counts[reason] = counts.get(reason, 0) + n
