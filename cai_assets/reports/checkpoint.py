"""The card of a checkpoint, from its record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cai_assets.constitution.model import Constitution, Use
from cai_assets.evals.statistics import Estimate
from cai_assets.reports.cards import CardInput, PrincipleUse, model_card
from cai_assets.store.provenance import provenance
from cai_assets.train.job import TrainingKind


def principle_rows(constitution: Constitution, counts: Mapping[str, int], use: Use) -> list[dict[str, Any]]:
    """Each principle's id, request text and number of training rows, as records keep them."""
    return [{"id": p.id, "text": getattr(p, use), "rows": counts.get(p.id, 0)} for p in constitution.taking_part(use)]


def checkpoint_card(
    kind: TrainingKind, key: str, base: str, record: Mapping[str, Any], *, coverage: str = ""
) -> str:
    """README.md of a checkpoint folder. ``base``: name of the model it was trained from; ``coverage``: of the
    constitution's parent, a line."""
    metrics = record["metrics"]
    held_out = metrics.get("held_out", {})
    numbers = {**metrics, **{f"held_out_{k}": v for k, v in held_out.items()}}
    return model_card(CardInput(
        kind=kind, key=key, base=base, base_digest=record["base"]["weights"], constitution=record["constitution"],
        rows=record["rows_by_kind"], principles=[PrincipleUse(**p) for p in record["principles"]],
        coverage=coverage,
        settings=record["settings"], created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        metrics=_estimates({k: float(v) for k, v in numbers.items() if isinstance(v, int | float)},
                           held_out.get("n", 0)),
        code=provenance()["git"]["commit"],
    ))


def _estimates(numbers: Mapping[str, float], n: int) -> dict[str, Estimate | float | None]:
    """Numbers with ``<name>_low`` and ``<name>_high`` beside them as one estimate over ``n`` held-out pairs."""
    ends = {f"{name}{end}" for name in numbers for end in ("_low", "_high") if f"{name}_low" in numbers}
    return {name: Estimate(value, n, numbers[f"{name}_low"], numbers[f"{name}_high"])
            if f"{name}_low" in numbers else value for name, value in numbers.items() if name not in ends}
