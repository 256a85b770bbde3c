"""What was measured of a reward model, as short markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cai_assets.evals.reward_baselines import BASELINES
from cai_assets.evals.statistics import FEW, Estimate
from cai_assets.reports.escape import inline
from cai_assets.settings.method import ENOUGH

NAMES = {"length": "length alone", "refusal": "refusal alone", "tfidf": "TF-IDF + logistic regression"}


def accuracy_table(figures: Mapping[str, Any]) -> str:
    """The reward model beside its baselines, on the same held-out pairs. ``figures``: of ``evals.reward.measure``."""
    n = figures["n"]
    rows = [("reward model", _between(figures, "accuracy"), "")]
    rows += [(NAMES[b], _between(figures, f"{b}_accuracy"), _between(figures, f"over_{b}")) for b in BASELINES]
    table = _table((f"right on {n} held-out pairs", "share [95 %]", "reward model minus it"), rows)
    return table if n >= ENOUGH else f"{table}\n\n{n} pairs are {FEW}: {ENOUGH} are needed."


def group_table(groups: Mapping[str, Estimate], what: str) -> str:
    """The accuracy by principle or by source; empty if there is no group."""
    rows = [(inline(name), str(x) if x.n >= ENOUGH else f"{FEW} (n = {x.n})") for name, x in groups.items()]
    return _table((what, "right [95 %] (held-out pairs)"), rows) if rows else ""


def reliability_table(figures: Mapping[str, Any]) -> str:
    """How sure the reward model is of its preference, and what the labels say of it; empty without held-out pairs."""
    rows = [(f"from {x['from']}", str(x["n"]), f"{x['confidence']:.3f}", f"{x['label']:.3f}")
            for x in figures["reliability"]]
    return _table(("sigmoid(margin)", "pairs", "mean of it", "mean label"), rows) if rows else ""


def _between(figures: Mapping[str, Any], name: str) -> str:
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "unknown"
    return f"{value:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
