"""What a change of the constitution does beyond what any constitution does: a difference of differences.

A control is a version that asks for nothing in particular (constitutions/neutral.yaml), made with the same settings.
The critic, the judge, one more training and its length change answers, too, whatever the principles say; the control
has all of that. Per prompt, of those graded in all three versions: (after - before) - (control - before), with the
interval over prompts of every difference here (``evals/statistics.clustered_difference``). What is the same in both
differences, ``before`` itself and the difficulty of a prompt, cancels out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cai_assets.constitution.check import Check
from cai_assets.evals.measures import EvaluationMeasure
from cai_assets.evals.rules import checks_of
from cai_assets.evals.statistics import Telling, clustered_difference, told
from cai_assets.reports.compare.metrics import KEYS, SAME, USUAL, asked, by_another_rule, by_prompt, measures_of, ready
from cai_assets.reports.compare.sides import Side, older, same_requests, settings_changed, side, with_prompt
from cai_assets.store.layout import Layout
from cai_assets.store.records import RecordMissing, Records
from cai_assets.versions.derived import Derivations
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Snapshots

# ``effect``: after - before; ``control``: control - before; ``delta``: the one less the other, with its interval.
SCHEMA: dict[str, Any] = {
    "policy": pl.String, "metric": pl.String, "prompts": pl.String, "effect": pl.Float64, "control": pl.Float64,
    "delta": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64, "not_in_all": pl.Int64,
    "ungraded": pl.Int64, "same_response": pl.Int64, "verdict": pl.String,
}


@dataclass(frozen=True)
class Control:
    """``metrics``: as SCHEMA; None if one of the three has no evaluation. ``notes``: what else than the constitution
    differs between the control and ``after``."""

    side: Side
    metrics: pl.DataFrame | None
    notes: tuple[str, ...]


def control_side(layout: Layout, name: str, after: Side) -> Side:
    """The side of a version, a record id, or, by a constitution's name, its newest version that was evaluated in the
    same round as ``after``. Raise as ``side``."""
    snapshots, number = Snapshots(layout), round_of(after.version).number
    evaluated, derived = set(Records(layout).partitions("evaluation")), Derivations(layout)
    found = (key for key in reversed(snapshots.known()) if key in evaluated and key.startswith(f"{name}-")
             and round_of(key).number == number and snapshots.load(key).name == name and derived.origin(key) is None)
    key, known = next(found, name), snapshots.known()
    if key == name and name not in known and any(k.startswith(f"{name}-") for k in known):
        raise RecordMissing(f"{name}: no version of it was evaluated in round {number}: run cai materialize {name}")
    return side(layout, key)


def controlled(before: Side, after: Side, control: Side, telling: Telling) -> Control:
    """The comparison of ``before`` with ``after``, and of ``before`` with the control."""
    sides = (before, after, control)
    tables = [s.detail("evaluation", "rows") for s in sides]
    evaluated = [with_prompt(t, s) for t, s in zip(tables, sides, strict=True) if t is not None]
    if len(evaluated) < len(sides):
        return Control(control, None, tuple(_notes(after, control)))
    found = beyond(evaluated, same_requests(*sides), telling=telling, checks=checks_of(after.constitution))
    one_rule = len({s.refusal_rule for s in sides}) == 1
    return Control(control, found if one_rule else by_another_rule(found), tuple(_notes(after, control)))


def beyond(evaluated: Sequence[pl.DataFrame], same: Sequence[str] = (), *, telling: Telling = USUAL,
           checks: Sequence[tuple[str, Check]] = ()) -> pl.DataFrame:
    """SCHEMA, one row for each policy in all three and measure. ``evaluated``: of before, after and the control. Tables
    and ``checks`` are those of ``metrics.deltas``; ``same``: principles whose evaluation request all three have."""
    frames = [ready(f, same, checks) for f in evaluated]
    policies = [p for p in frames[0]["policy"].unique(maintain_order=True)
                if all(p in f["policy"] for f in frames[1:])]
    rows = [row for p in policies for row in _policy(p, [f.filter(policy=p) for f in frames], telling)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _policy(policy: str, frames: Sequence[pl.DataFrame], telling: Telling) -> Iterator[dict[str, Any]]:
    for m in measures_of(frames[1]):
        parts = [asked(m, f) for f in frames]
        if all(f[m.column].null_count() < f.height for f in parts):
            yield {"policy": policy, "metric": m.name, "prompts": m.prompts, **_row(m, parts, telling)}


def _row(m: EvaluationMeasure, parts: Sequence[pl.DataFrame], telling: Telling) -> dict[str, Any]:
    before, after, control = (by_prompt(m, f) for f in parts)
    shared = (before.join(after, on=KEYS, how="inner", suffix="_after", nulls_equal=True)
              .join(control, on=KEYS, how="inner", suffix="_control", nulls_equal=True).sort(*KEYS))
    graded = shared.drop_nulls(["value", "value_after", "value_control"])
    effect, other = (graded[name] - graded["value"] for name in ("value_after", "value_control"))
    one, two = ({str(i): [v] for i, v in enumerate(moved)} for moved in (effect, other))
    e = clustered_difference(one, two, telling.confidence, bounds=(-1.0, 1.0) if m.rate else None)
    same = graded.filter(pl.col("row_key_after") == pl.col("row_key_control")).height
    unchanged = same == graded.height > 0 and bool((effect == other).all())
    known = pl.concat([f.select(KEYS) for f in (before, after, control)]).unique().height
    return {
        "effect": effect.mean(), "control": other.mean(), "delta": e.value, "low": e.low, "high": e.high, "n": e.n,
        "not_in_all": known - shared.height, "ungraded": shared.height - graded.height, "same_response": same,
        "verdict": SAME if unchanged else told(e, enough=telling.enough, better=m.better),
    }


def _notes(after: Side, control: Side) -> Iterator[str]:
    if after.version == control.version:
        yield f"{control.name} is the version that it is a control of: name another one."
    rounds = [round_of(s.version).number for s in (after, control)]
    if rounds[0] != rounds[1]:
        yield f"The control is of round {rounds[1]}, {after.name} of round {rounds[0]}."
    if changed := settings_changed(control, after):
        yield (f"Between the control and {after.name} not only the constitution differs. Settings that were changed: "
               f"{'; '.join(changed)}.")
    yield from older(control)
