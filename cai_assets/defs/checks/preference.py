"""Checks of AI feedback and the reward model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from cai_assets.defs.checks.common import (
    NOTHING_IS_LOST,
    ROWS_FIT,
    Verdict,
    check,
    nothing_failed,
    nothing_is_lost,
    rows_fit,
)
from cai_assets.defs.gate import judged
from cai_assets.evals.power import beside, would_pass
from cai_assets.evals.reward_baselines import BASELINES
from cai_assets.evals.statistics import Estimate, Telling, told
from cai_assets.pipeline.project import Project
from cai_assets.settings.method import CONFIDENCE, ENOUGH
from cai_assets.store.records import Record

CALIBRATION_LIMIT = 0.1
LENGTH_LIMIT = 0.7


def labels_can_train(project: Project, record: Record, _: str | None) -> Verdict:
    made = project.records.stored(record)
    graded = made.count(pl.col("p_a").is_not_null())
    numbers = {"pairs": made.height, "graded": graded, "identical": made.count(pl.col("identical"))}
    return graded >= 4, f"{graded} of {made.height} pairs are graded; a reward model needs at least 4", numbers


def labeller_agrees_with_people(project: Project, record: Record, _: str | None) -> Verdict:
    return judged(project, record)


def labels_may_train(project: Project, record: Record, _: str | None) -> Verdict:
    # A separate check: Dagster's automation blocks assets downstream of a failed blocking check, whatever its severity.
    passed, why, numbers = judged(project, record)
    if passed or project.settings.gate.enforce:
        return passed, why, numbers
    return True, f"not enforced (gate.enforce=false); it would fail: {why}", numbers


def orders_agree(project: Project, record: Record, _: str | None) -> Verdict:
    graded = project.records.stored(record).read("p_a", "label", where=pl.col("p_a").is_not_null())
    agree = graded.filter(pl.col("label") != "tie").height
    share = agree / max(1, graded.height)
    text = (f"both orders agree on {agree} of {graded.height} pairs; below one half, labels follow the position, not "
            "the text")
    return share >= 0.5, text, {"agree": agree, "graded": graded.height, "share": share}


def beats_chance(_: Project, record: Record, __: str | None) -> Verdict:
    held = record.details["metrics"].get("held_out", {})
    low, n = held.get("accuracy_low"), held.get("n", 0)
    passed = low is not None and low > 0.5
    text = f"held-out accuracy {Estimate(held.get('accuracy'), n, low, held.get('accuracy_high'))}"
    return passed, text if passed else text + would_pass(n, CONFIDENCE), {"n": n}


def beats_baselines(_: Project, record: Record, __: str | None) -> Verdict:
    held = record.details["metrics"]["held_out"]
    if held["n"] < ENOUGH:
        return False, _too_few(held["n"]), {"n": held["n"]}
    leads = {name: held[f"over_{name}_low"] for name in BASELINES}
    each = "; ".join(f"{name} {held[f'{name}_accuracy']:.3g}, difference {_lead(held, name)}" for name in BASELINES)
    text = f"held-out accuracy {held['accuracy']:.3g} on {held['n']} pairs; {each}"
    return all(low > 0 for low in leads.values()), text, {"n": held["n"]}


def _lead(held: Mapping[str, Any], name: str) -> str:
    """By how much the model is more accurate than a baseline, and where that cannot be told, which lead could be."""
    value, low, high = (held[f"over_{name}{end}"] for end in ("", "_low", "_high"))
    lead = Estimate(value, held["n"], low, high)
    more = beside(told(lead, enough=ENOUGH, better="higher"), lead, Telling(CONFIDENCE, ENOUGH))
    return f"{value:.3g} from {low:.3g} to {high:.3g}{f' ({more})' if more else ''}"


def is_calibrated(_: Project, record: Record, __: str | None) -> Verdict:
    held = record.details["metrics"]["held_out"]
    error, n = held["calibration_error"], sum(row["n"] for row in held["reliability"])
    if n < ENOUGH:
        return False, _too_few(n), {"n": n}
    text = f"expected calibration error {error:.3g} on {n} held-out pairs, limit {CALIBRATION_LIMIT}"
    if record.settings["reward"]["margin"] > 0:
        text += "; reward.margin asks for wider margins than the labels say, so some error is expected"
    return error <= CALIBRATION_LIMIT, text, {"n": n, "calibration_error": error, "limit": CALIBRATION_LIMIT}


def not_only_length(_: Project, record: Record, __: str | None) -> Verdict:
    held = record.details["metrics"]["held_out"]
    r, low, high = (held[f"length_correlation{end}"] for end in ("", "_low", "_high"))
    if held["n"] < ENOUGH or r is None:
        return False, _too_few(held["n"]), {"n": held["n"]}
    between = "" if low is None else f", interval {low:.3g} to {high:.3g}"
    text = (f"reward and length correlate with r = {r:.3g}{between} on {held['n']} held-out pairs, limit "
            f"{LENGTH_LIMIT}: at the limit, length explains half of the reward's variance")
    return abs(r) < LENGTH_LIMIT, text, {"n": held["n"], "length_correlation": r, "limit": LENGTH_LIMIT}


def _too_few(n: int) -> str:
    return f"{n} held-out pairs are too few to tell: {ENOUGH} needed"


checks = [
    check("response_pairs", "nothing_failed", nothing_failed, description="Every model call succeeded"),
    check("preference_pairs", "labels_can_train", labels_can_train, blocking=True,
          description="At least 4 graded pairs, enough to train a reward model"),
    check("preference_pairs", "nothing_is_lost", nothing_is_lost, blocking=True, description=NOTHING_IS_LOST),
    check("preference_pairs", "labels_may_train", labels_may_train, blocking=True,
          description="The judge gate: labels train nothing if the labeler fails it, unless gate.enforce is off"),
    check("preference_pairs", "labeller_agrees_with_people", labeller_agrees_with_people,
          description="The labeler agrees with people on human-labeled comparisons, and with itself after a swap"),
    check("preference_pairs", "orders_agree", orders_agree,
          description="The labeler prefers the same response in both orders for at least half of the graded pairs"),
    check("reward_model", "beats_chance", beats_chance,
          description="The interval of the held-out accuracy is entirely above one half"),
    check("reward_model", "beats_baselines", beats_baselines,
          description="More accurate than length, refusal, and TF-IDF on the same held-out pairs, each by its paired "
                      "interval"),
    check("reward_model", "is_calibrated", is_calibrated,
          description=f"The expected calibration error against the labels is at most {CALIBRATION_LIMIT}"),
    check("reward_model", "not_only_length", not_only_length,
          description=f"The correlation of reward and length is below {LENGTH_LIMIT} in absolute value"),
    check("reward_model", "rows_fit", rows_fit, description=ROWS_FIT),
]
