"""What asking policies a prompt would cost: answers that are stored come back, the others are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cai_assets.engines.protocol import Engine
from cai_assets.pipeline.ask import Who, ask
from cai_assets.pipeline.project import Project
from cai_assets.plan.dry import DryCompleter
from cai_assets.plan.rates import model_size, row_rate
from cai_assets.steps.complete import Row

EVALUATION = "evaluation"  # whose calls these are


class Asking(NamedTuple):
    """``rows``: of each of ``who``, without a text where it is to be sampled; ``cost``: one line."""

    who: Sequence[Who]
    rows: Sequence[Row]
    cost: str

    @property
    def missing(self) -> int:
        return sum(row.text is None for row in self.rows)


def plan_ask(project: Project, who: Sequence[Who], prompt: str) -> Asking:
    """Look the answers up. Loads no model."""
    def looked_up(engine: Engine) -> DryCompleter:
        return DryCompleter(engine.identity, project.store, seed=project.settings.seed)

    rows = ask(project, who, prompt, looked_up)
    missing = [one for one, row in zip(who, rows, strict=True) if row.text is None]
    return Asking(who, rows, _cost(project, missing, len(who)))


def _cost(project: Project, missing: Sequence[Who], every: int) -> str:
    if not missing:
        return f"All {every} answers are stored: this costs nothing."
    count, models = len(missing), len({id(w.engine) for w in missing})
    size, rate = model_size(project, EVALUATION), row_rate(project, EVALUATION)
    load = f"; loads {models} model{'s' * (models > 1)} of {size / 1e6:,.0f} million parameters" if size else ""
    time = f"; about {max(1, round(rate.seconds * count))} s" if rate.seconds is not None else "; no rate yet"
    tokens = project.settings.evaluation.max_tokens
    return (f"{count} of {every} answers to sample, of at most {tokens} tokens each{load}"
            f"{time}{', without loading' if load else ''}.")
