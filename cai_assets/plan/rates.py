"""What rows and trainings have cost in this store so far: the only source of a plan's figures."""

from __future__ import annotations

from dataclasses import dataclass

from cai_assets.store.records import Records


@dataclass(frozen=True)
class Rate:
    """Seconds and completion tokens per unit (a row, or a training), over ``measured`` materializations.

    ``low`` and ``high`` are the smallest and largest seconds per unit seen; None if nothing was measured yet.
    """

    measured: int = 0
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    tokens: float | None = None


def row_rate(records: Records, asset: str) -> Rate:
    """Cost per generated row of an asset, from every materialization that generated some."""
    made = [r for r in records.every(asset) if r.generated and r.details.get("engine_seconds")]
    if not made:
        return Rate()
    rows = sum(r.generated for r in made)
    each = [r.details["engine_seconds"] / r.generated for r in made]
    return Rate(len(made), sum(r.details["engine_seconds"] for r in made) / rows, min(each), max(each),
                sum(r.completion_tokens for r in made) / rows)


def training_rate(records: Records, asset: str) -> Rate:
    """Cost of one training of an asset, from every materialization that trained."""
    seconds = [r.details["engine_seconds"] for r in records.every(asset) if r.details.get("reused_checkpoint") is False]
    if not seconds:
        return Rate()
    return Rate(len(seconds), sum(seconds) / len(seconds), min(seconds), max(seconds))
