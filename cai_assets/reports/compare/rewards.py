"""Whether two reward models would choose alike, on pairs that neither was trained on.

Guarantees: they are compared on pairs that were held out from both, with the same conversation and responses; where
there are none it says why, and gives each its accuracy on its own held-out pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import ValidationError

from cai_assets.assets import LABELS
from cai_assets.evals.reward import accuracy, outcomes, parse
from cai_assets.evals.statistics import Estimate
from cai_assets.lineage.targets import nearest
from cai_assets.lineage.trace import tree
from cai_assets.pipeline.trainings import reward_columns
from cai_assets.reports.compare.labels import with_text
from cai_assets.reports.compare.sides import Side
from cai_assets.settings.method import CONFIDENCE
from cai_assets.settings.training import Reward
from cai_assets.steps.comparisons import comparisons
from cai_assets.store.folders import read
from cai_assets.store.parquet import read_parquet
from cai_assets.store.published import read_about
from cai_assets.store.tables import table_digest

SAME = "the same checkpoint"
NO_COMMON = "no pair was held out from both"


@dataclass(frozen=True)
class Rewards:
    """``agreement``: the share of common held-out pairs of which both prefer the same response; no preference counts
    half. ``before``, ``after``: accuracy on each one's own held-out pairs. ``why_none``: why there is no agreement."""

    agreement: Estimate
    before: Estimate
    after: Estimate
    why_none: str | None


def compare_rewards(before: Side, after: Side, confidence: float) -> Rewards | None:
    """None if either has no reward model."""
    if not ("reward_model" in before.records and "reward_model" in after.records):
        return None
    accuracies = [_own_accuracy(s) for s in (before, after)]
    if before.digest("reward_model") == after.digest("reward_model"):
        return Rewards(Estimate(None, 0), accuracies[0], accuracies[1], SAME)
    held = [_held_out(s) for s in (before, after)]
    for s, pairs in zip((before, after), held, strict=True):
        if isinstance(pairs, str):
            return Rewards(Estimate(None, 0), accuracies[0], accuracies[1], f"{s.name}: {pairs}")
    old, new = (f for f in held if isinstance(f, pl.DataFrame))
    agreement = agree(old, new, confidence)
    return Rewards(agreement, accuracies[0], accuracies[1], None if agreement.n else NO_COMMON)


def agree(before: pl.DataFrame, after: pl.DataFrame, confidence: float = CONFIDENCE) -> Estimate:
    """``before``, ``after``: messages, chosen, rejected and margin (reward of chosen minus of rejected) of each
    held-out pair; chosen and rejected may be exchanged between them."""
    old, new = (_oriented(f) for f in (before, after))
    pairs = old.join(new, on=["text", "nth"], how="inner", suffix="_after")
    decided = pairs.filter(pl.col("margin_after") != 0)
    undecided = [0.5] * (pairs.height - decided.height)
    sides = (decided["margin_after"] > 0).cast(pl.Float64).to_list()
    return accuracy(outcomes(decided["margin"].to_list(), sides) + undecided, confidence)


def _oriented(pairs: pl.DataFrame) -> pl.DataFrame:
    oriented = with_text(pairs, "chosen", "rejected")
    margin = pl.when(pl.col("swapped")).then(-pl.col("margin")).otherwise(pl.col("margin"))
    return oriented.select("text", "nth", margin.alias("margin"))


def _own_accuracy(s: Side) -> Estimate:
    held: dict[str, Any] = s.records["reward_model"].details.get("metrics", {}).get("held_out", {})
    return Estimate(held.get("accuracy"), held.get("n", 0), held.get("accuracy_low"), held.get("accuracy_high"))


def _held_out(s: Side) -> pl.DataFrame | str:
    """The held-out pairs with the model's margins, or why they are not known."""
    folder, record = s.checkpoint("reward_model"), s.records["reward_model"]
    measured = None if folder is None else read(folder, "held_out.jsonl")
    if folder is None or measured is None:
        return "its checkpoint has no held-out rewards (held_out.jsonl)"
    results = parse(measured.decode().splitlines())
    rows = _training_rows(s)
    made_of = read_about(folder).get("data")
    if rows is None or table_digest(reward_columns(rows)) != made_of:
        return f"the rows that {record.ref.id} was trained on cannot be reconstructed from the labels alone"
    places = [r.index for r in results]
    return rows[places].select("messages", "chosen", "rejected").with_columns(
        pl.Series("margin", [r.margin for r in results], dtype=pl.Float64))


def _training_rows(s: Side) -> pl.DataFrame | None:
    """As ``trainings.reward_comparisons`` made them of the labels that were read; None with human comparisons mixed in,
    for their file may have changed."""
    record = s.records["reward_model"]
    try:
        settings = Reward.model_validate(record.settings["reward"])
    except (KeyError, ValidationError):
        return None
    labels = nearest(record, LABELS, tree(s.layout, record))
    if labels is None or settings.human is not None:
        return None
    return comparisons(read_parquet(s.layout.absolute(labels.path)), settings.held_out)
