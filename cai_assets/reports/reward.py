"""What was measured of a reward model, as short markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai_assets.evals.power import detectable_share
from cai_assets.evals.reward_baselines import BASELINES
from cai_assets.evals.statistics import FEW, Estimate
from cai_assets.reports.text.numbers import UNKNOWN, plain
from cai_assets.reports.text.tables import table
from cai_assets.settings.method import CONFIDENCE, ENOUGH

NAMES = {"length": "length alone", "refusal": "refusal alone", "tfidf": "TF-IDF + logistic regression"}


def accuracy_table(figures: Mapping[str, Any]) -> str:
    """The reward model beside its baselines, on the same held-out pairs. ``figures``: of ``evals.reward.measure``."""
    n = figures["n"]
    rows = [("reward model", _between(figures, "accuracy"), "")]
    rows += [(NAMES[b], _between(figures, f"{b}_accuracy"), _between(figures, f"over_{b}")) for b in BASELINES]
    shown = table((f"right on {n} held-out pairs", "share [95 %]", "reward model minus it"), rows)
    return shown if n >= ENOUGH else f"{shown}\n\n{n} pairs are {FEW}: {ENOUGH} are needed{_right()}."


def group_table(groups: Mapping[str, Estimate], what: str) -> str:
    """The accuracy by principle or by source; empty if there is no group."""
    rows = [(name, str(x) if x.n >= ENOUGH else _few(x.n)) for name, x in groups.items()]
    return table((what, "right [95 %] (held-out pairs)"), rows) if rows else ""


CONTROLS = {"own": "reward model", "blind": "without principles", "shuffled": "by principles drawn at random",
            "left_out": "never trained on it"}


def controls_table(measured: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The accuracy by principle of a reward model that reads them, and of its controls, on the same held-out votes.

    ``measured``: by control and principle id ('': all), an estimate's fields.
    """
    there = [name for name in CONTROLS if name in measured]
    ids = sorted({i for name in there for i in measured[name]}, key=lambda i: (i == "", i))
    rows = [(i or "all", *(_told(measured[name].get(i)) for name in there)) for i in ids]
    return table(("principle", *(CONTROLS[name] for name in there)), rows)


def _told(fields: Mapping[str, Any] | None) -> str:
    if fields is None:
        return ""
    estimate = Estimate(**fields)
    return plain(estimate, 2) if estimate.n >= ENOUGH else _few(estimate.n)


def _few(n: int) -> str:
    return f"{FEW} (n = {n}; {ENOUGH} needed{_right()})"


def _right() -> str:
    """What so many pairs can tell from guessing."""
    share = detectable_share(ENOUGH, CONFIDENCE)
    return f", which tell {share:.0%} right from guessing" if share else ""


def reliability_table(figures: Mapping[str, Any]) -> str:
    """How sure the reward model is of its preference, and what the labels say of it; empty without held-out pairs."""
    rows = [(f"from {x['from']}", str(x["n"]), f"{x['confidence']:.3f}", f"{x['label']:.3f}")
            for x in figures["reliability"]]
    return table(("sigmoid(margin)", "pairs", "mean of it", "mean label"), rows) if rows else ""


def _between(figures: Mapping[str, Any], name: str) -> str:
    e = Estimate(*(figures[key] for key in (name, "n", f"{name}_low", f"{name}_high")))
    return UNKNOWN if e.value is None else plain(e, 3)
