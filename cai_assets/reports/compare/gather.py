"""Everything that two constitution versions are compared by, from their records.

Guarantees: nothing is run or changed; what either side has not made is None, and the page says so; the same records
give the same comparison, which ``stamp`` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from cai_assets.assets import COMPARABLE, LABELS, OWN
from cai_assets.constitution.diff import Diff, diff
from cai_assets.evals.power import detectable
from cai_assets.evals.rules import checks_of
from cai_assets.evals.statistics import Telling
from cai_assets.plan.touches import touches
from cai_assets.reports.compare.answers import Answers, compare_answers
from cai_assets.reports.compare.control import Control, control_side, controlled
from cai_assets.reports.compare.labels import NEEDED, Labels, compare_labels
from cai_assets.reports.compare.making import Making, making
from cai_assets.reports.compare.metrics import by_another_rule, deltas
from cai_assets.reports.compare.revisions import COLUMNS, Revisions, compare_revisions
from cai_assets.reports.compare.rewards import Rewards, compare_rewards
from cai_assets.reports.compare.sides import Side, notes, same_requests, side, with_prompt
from cai_assets.reports.constitution_diff import to_json
from cai_assets.reports.text.numbers import change_of
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout

FORMAT = 3  # of what is computed; part of the stamp
SPENT = ("reused", "generated", "failed", "prompt_tokens", "completion_tokens", "seconds", "gpu_seconds")


@dataclass(frozen=True)
class Comparison:
    """``metrics``: as ``metrics.SCHEMA``. ``relabeled``: the pairs of ``before``, labeled by both constitutions.
    ``control``: what the change does beyond a version that asks for nothing. ``cost``: asset, side, how it was made,
    and SPENT of its record."""

    before: Side
    after: Side
    principles: Diff
    revisions: Revisions | None
    labels: Labels | None
    rewards: Rewards | None
    metrics: pl.DataFrame | None
    cost: pl.DataFrame
    notes: tuple[str, ...]
    answers: Answers | None
    made: tuple[Making, Making]
    relabeled: Labels | None = None
    control: Control | None = None

    @property
    def telling(self) -> Telling:
        """What it takes to claim a difference here."""
        return telling_of(self.before, self.after)

    @property
    def stamp(self) -> str:
        """Names the records that were compared."""
        return stamp(self.before, self.after, *([self.control.side] if self.control else []))


def telling_of(before: Side, after: Side) -> Telling:
    """As the newer evaluation of the two was made with; notes say where the older one differs."""
    return next((s for s in (after, before) if "evaluation" in s.records), after).telling


def stamp(*sides: Side) -> str:
    """A digest of the records of the sides."""
    ids = [[s.name, *sorted(f"{r.ref.id} {r.digest}" for r in s.records.values())] for s in sides]
    return tagged_hash("cmp", [FORMAT, ids])


def compare(layout: Layout, before: str, after: str) -> Comparison:
    """Compare two versions, rounds or record ids. Raise UnknownVersion, UnknownTarget or RecordMissing."""
    return compare_sides(side(layout, before), side(layout, after))


def compare_sides(before: Side, after: Side) -> Comparison:
    """As ``compare``, for sides at hand."""
    telling, evaluated = telling_of(before, after), _evaluated(before, after)
    return Comparison(
        before, after, diff(before.constitution, after.constitution), revisions_of(before, after),
        _labels(before, after, telling), compare_rewards(before, after, telling.confidence),
        _metrics(before, after, telling, *evaluated) if evaluated else None, _cost(before, after),
        tuple(notes(before, after)), compare_answers(*evaluated, tuple(reversed(OWN))) if evaluated else None,
        (making(before), making(after)))


def with_relabeled(c: Comparison, labels: pl.DataFrame) -> Comparison:
    """The comparison with the pairs of ``before`` as the constitution of ``after`` labels them."""
    own = c.before.table(LABELS, *NEEDED)
    return c if own is None else replace(c, relabeled=compare_labels(own, labels, confidence=c.telling.confidence))


def with_control(c: Comparison, layout: Layout, name: str) -> Comparison:
    """The comparison beside a control. Raise as ``compare``."""
    return replace(c, control=controlled(c.before, c.after, control_side(layout, name, c.after), c.telling))


def as_dict(c: Comparison) -> dict[str, Any]:
    """Plain JSON: counts, estimates, tables and samples; the changed rows in full only by their place."""
    return {
        "before": _identity(c.before), "after": _identity(c.after), "stamp": c.stamp, "notes": list(c.notes),
        "principles": to_json(c.principles, touches(c.principles)),
        "revisions": c.revisions and {
            "paired": c.revisions.paired, "texts": dict(c.revisions.rows["text"].value_counts().sort("text").rows()),
            "causes": c.revisions.causes(), "by_principle": c.revisions.by_principle.to_dicts(),
            "changed": c.revisions.rows.filter(text="changed").select(
                "prompt_id", "round", "cause", "share").to_dicts(),
            "worst": c.revisions.worst.to_dicts(), "sample": c.revisions.sample.to_dicts()},
        "labels": c.labels and {k: _plain(v) for k, v in vars(c.labels).items()},
        **({"relabeled": {k: _plain(v) for k, v in vars(c.relabeled).items()}} if c.relabeled else {}),
        **({"control": _control(c.control, c.telling)} if c.control else {}),
        "reward_models": c.rewards and asdict(c.rewards),
        "metrics": _detectable(c.metrics, c.telling),
        "cost": c.cost.to_dicts(),
        "answers": c.answers and {**c.answers._asdict(), "pairs": [p._asdict() for p in c.answers.pairs]},
        "made": {name: m._asdict() for name, m in zip(("before", "after"), c.made, strict=True)},
    }


def _detectable(metrics: pl.DataFrame | None, telling: Telling) -> list[dict[str, Any]] | None:
    """The rows, each with what it could have found."""
    return None if metrics is None else [{**r, "detectable": detectable(change_of(r), telling)}
                                         for r in metrics.to_dicts()]


def _control(control: Control, telling: Telling) -> dict[str, Any]:
    metrics = _detectable(control.metrics, telling)
    return {**_identity(control.side), "notes": list(control.notes), "metrics": metrics}


def _plain(value: Any) -> Any:
    if isinstance(value, pl.DataFrame):
        return value.to_dicts()
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _identity(s: Side) -> dict[str, Any]:
    return {"name": s.name, "version": s.version, "constitution": s.constitution.name,
            "records": {asset: r.ref.id for asset, r in s.records.items()}}


def revisions_of(before: Side, after: Side) -> Revisions | None:
    """Which revisions read differently; None if either side has none."""
    tables = [s.table("revisions", "prompt_id", "round", *COLUMNS) for s in (before, after)]
    old, new = (t if t is None else with_prompt(t, s) for t, s in zip(tables, (before, after), strict=True))
    return None if old is None or new is None else compare_revisions(old, new)


def _labels(before: Side, after: Side, telling: Telling) -> Labels | None:
    old, new = (s.table(LABELS, *NEEDED) for s in (before, after))
    return None if old is None or new is None else compare_labels(
        old, new, confidence=telling.confidence)


def _evaluated(before: Side, after: Side) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """The rows of both evaluations; None if either side has none."""
    tables = [s.detail("evaluation", "rows") for s in (before, after)]
    old, new = (t if t is None else with_prompt(t, s) for t, s in zip(tables, (before, after), strict=True))
    return None if old is None or new is None else (old, new)


def _metrics(before: Side, after: Side, telling: Telling, old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    found = deltas(old, new, same_requests(before, after), telling=telling, checks=checks_of(after.constitution))
    return found if before.refusal_rule == after.refusal_rule else by_another_rule(found)


def _cost(before: Side, after: Side) -> pl.DataFrame:
    rows = list(_spent(before, after))
    schema = {"asset": pl.String, "side": pl.String, "made": pl.String, **{
        name: pl.Float64 if name.endswith("seconds") else pl.Int64 for name in SPENT}}
    return pl.DataFrame(rows, schema=schema)


def _spent(before: Side, after: Side) -> Iterator[dict[str, Any]]:
    for asset in COMPARABLE:
        for name, s in (("before", before), ("after", after)):
            record = s.records.get(asset)
            if record is None:
                continue
            reused = record.details.get("reused_checkpoint")
            how = "table" if reused is None else "checkpoint reused" if reused else "trained"
            yield {"asset": asset, "side": name, "made": how, **{n: getattr(record, n) for n in SPENT}}
