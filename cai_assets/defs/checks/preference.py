"""Checks of AI feedback and the reward model."""

from __future__ import annotations

import polars as pl

from cai_assets.defs.checks.common import Verdict, check, nothing_failed
from cai_assets.lineage.records import Record
from cai_assets.project import Project


def labels_can_train(project: Project, record: Record, _: str | None) -> Verdict:
    frame = project.records.table(record)
    graded = frame.filter(pl.col("p_a").is_not_null()).height
    numbers = {"pairs": frame.height, "graded": graded, "identical": int(frame["identical"].sum())}
    return graded >= 4, f"{graded} of {frame.height} pairs are graded; a reward model needs at least 4", numbers


def orders_agree(project: Project, record: Record, _: str | None) -> Verdict:
    graded = project.records.table(record).filter(pl.col("p_a").is_not_null())
    agree = graded.filter(pl.col("label") != "tie").height
    share = agree / max(1, graded.height)
    text = f"both orders agree on {agree} of {graded.height} pairs; below a half, labels follow the place, not the text"
    return share >= 0.5, text, {"agree": agree, "graded": graded.height, "share": share}


def beats_chance(_: Project, record: Record, __: str | None) -> Verdict:
    held = record.details["metrics"].get("held_out", {})
    low, n = held.get("accuracy_low"), held.get("n", 0)
    text = f"held-out accuracy {held.get('accuracy')} on {n} pairs, interval {low} to {held.get('accuracy_high')}"
    return low is not None and low > 0.5, text, {"n": n}


checks = [
    check("response_pairs", "nothing_failed", nothing_failed, description="Every model call came back"),
    check("preference_pairs", "labels_can_train", labels_can_train, blocking=True,
          description="Enough graded pairs to train a reward model"),
    check("preference_pairs", "orders_agree", orders_agree,
          description="The labeller prefers the same response in both orders at least half of the time"),
    check("reward_model", "beats_chance", beats_chance,
          description="The interval of the held-out accuracy lies above one half"),
]
