"""What the judge gate measured, as short markdown tables."""

from __future__ import annotations

from cai_assets.evals.benchmarks import STRATA
from cai_assets.evals.gate import GateResult
from cai_assets.evals.statistics import Estimate
from cai_assets.reports.text.tables import table


def estimate_table(result: GateResult) -> str:
    """Every estimate with interval and count."""
    rows = [(name.replace("_", " "), value) for name, value in result if isinstance(value, Estimate)]
    return table(("measure", "estimate"), rows)


def benchmark_table(result: GateResult) -> str:
    """Each benchmark by shape and category; of styles also the strata, and easy less hard."""
    rows = [(b.name, m.shape, m.category, f"{m.rows - m.ungraded} of {m.rows}", m.right or m.rank,
             None if m.rank else f"{m.chance:.2f}", *(m.strata.get(s) for s in STRATA), m.gap)
            for b in result.benchmarks for m in b.measured]
    return table(("benchmark", "shape", "category", "rows graded", "right, or rank correlation", "by chance", *STRATA,
                  "easy less hard"), rows)


def reliability_table(result: GateResult) -> str:
    """Confidence against accuracy."""
    return table(("confidence", "n", "mean confidence", "accuracy"), [
        (f"{b.low:.1f} to {b.high:.1f}", b.n, _shown(b.confidence), _shown(b.accuracy)) for b in result.reliability])


def _shown(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
