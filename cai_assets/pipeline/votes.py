"""The reward model that reads principles: which votes it is trained on, and what it never saw.

Guarantee: a version that lost principles uses the reward model again that was trained on the votes of those that it has
and of those that it lost. The reward of a lost principle is left out of the sum, so nothing has to be learned again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl

from cai_assets.assets import LABELS
from cai_assets.pipeline.context import Context
from cai_assets.steps.comparisons import vote_comparisons
from cai_assets.steps.questions import labeling_principles
from cai_assets.store.records import Record, RecordMissing

VOTE = ["pair_id", "principle_id", "principle", "chosen", "p_chosen"]


def votes_to_train_on(run: Context, labels: pl.DataFrame, trained: Callable[[pl.DataFrame], bool]) -> pl.DataFrame:
    """The version's own votes; or more, those of a version that has principles which this one lost, if a reward model
    was ``trained`` on these and none on its own."""
    own = _votes(run, labels, run.version)
    if trained(own):
        return own
    return next((more for more in _with_more(run, own) if trained(more)), own)


def unknown_principles(run: Context, record: Mapping[str, Any]) -> str:
    """What a person should know of principles that a reward model, whose checkpoint's ``record`` this is, was not
    trained on; '' if there are none."""
    known = {p["id"] for p in record.get("principles", []) if p["rows"]}
    new = [p.id for p in labeling_principles(run.constitution) if p.id not in known]
    if not new or not known:
        return ""
    left_out = record["metrics"].get("principles", {}).get("left_out", {})
    told = ", ".join(f"{name} {x['value']:.2f} (n = {x['n']})" for name, x in sorted(left_out.items())
                     if x["value"] is not None)
    how = f"of its own principles, each left out of the training, its scores were right: {told}" if told else (
        "how it does on a principle it never saw is not known: train it with reward.controls=all")
    return f"the reward model was not trained on {', '.join(new)}; {how}"


def _votes(run: Context, labels: pl.DataFrame, version: str | None) -> pl.DataFrame:
    constitution = run.constitution if version == run.version else run.project.snapshots.load(str(version))
    return vote_comparisons(labels, run.settings.reward.held_out, constitution, run.settings.labels)


def _with_more(run: Context, own: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The votes of other versions that have all of ``own``, and else only those of principles that are lost, newest
    first."""
    kept = pl.col("principle_id").is_in([p.id for p in labeling_principles(run.constitution)])
    for record in sorted(run.project.records.every("reward_model"), key=lambda r: r.created, reverse=True):
        if record.partition != run.version and record.settings.get("reward", {}).get("input") == "principle":
            more = _votes_of(run, record)
            if more is not None and more.height > own.height and more.filter(kept).select(VOTE).equals(
                    own.select(VOTE)):
                yield more


def _votes_of(run: Context, record: Record) -> pl.DataFrame | None:
    try:
        above = next(ref for ref in record.inputs if ref.asset == LABELS)
        return _votes(run, run.project.records.table(run.project.records.get(above)), record.partition)
    except (StopIteration, RecordMissing):
        return None
