"""How many held-out prompts, or samples of each, an effect needs to be found, and what evaluating so many would cost.

The spread of prompts is measured on the newest evaluation of the version, of the one before it, or of any other; it
has two parts, between prompts and between the samples of one (Miller 2024, *Adding Error Bars to Evals*, section 3.2).
Without one it is assumed: answers are coins. The test is that of ``evals/power.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cai_assets.assets import BASE, OWN, PLAIN, RIVALS
from cai_assets.evals.measures import EVALUATION
from cai_assets.evals.power import detectable_by, prompts_needed
from cai_assets.evals.statistics import Telling
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.policies import policy_names
from cai_assets.pipeline.project import Project
from cai_assets.plan.evaluation import questions_against_base
from cai_assets.plan.lines import cost_of, version_before
from cai_assets.plan.rates import row_rate
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import Record

MOST_SAMPLES = 64  # as evaluation.samples may be
SETTINGS = {"red-team": "prompts.eval_red_team", "helpful": "prompts.eval_helpful"}


class Spread(NamedTuple):
    """Variances of a prompt's difference: ``between`` prompts, and ``within`` one, from sample to sample (0 where each
    has one sample: then it is part of the other). ``prompts``: on how many they were measured; 0: assumed."""

    between: float
    within: float
    prompts: int

    def at(self, samples: int) -> float:
        """The standard deviation of the mean of so many samples."""
        return float(np.sqrt(self.between + self.within / samples))


@dataclass(frozen=True)
class Needed:
    """What one measure needs. ``detectable``: with the settings as they are. ``prompts``: with ``samples`` of each as
    set; None: too many. ``samples_instead``: of the prompts that are set, if more samples alone suffice. Calls, tokens
    and seconds are those of the evaluation with so many prompts of this kind, the others as set, all made anew."""

    measure: str
    kind: str
    spread: float
    measured_on: int
    detectable: float
    samples: int
    prompts: int | None
    setting: str
    samples_instead: int | None
    calls: int | None
    tokens: float | None
    seconds: float | None


@dataclass(frozen=True)
class Power:
    """``source``: the record whose evaluation says how much prompts differ; None: nothing does."""

    effect: float
    source: str | None
    lines: tuple[Needed, ...]


class Judged(NamedTuple):
    """``asked``: calls of the judge on each answer of a policy; ``absent``: policies that the version has none of."""

    asked: int
    absent: frozenset[str] = frozenset()


class _Compared(NamedTuple):
    label: str
    kind: str
    column: str
    against: str  # a policy, or '': one half


def plan_power(project: Project, version: str, effect: float) -> Power:
    """What finding a difference of ``effect`` needs, by measure. Runs nothing."""
    record = _evaluation(project, version)
    rows = read_parquet(project.layout.absolute(str(record.details["rows"]))) if record else None
    constitution = project.snapshots.load(version)
    judged = Judged(questions_against_base(constitution), absent(constitution))
    lines = tuple(_needed(project, one, rows, effect, judged) for one in _compared())
    return Power(effect, record.ref.id if record else None, lines)


def _evaluation(project: Project, version: str) -> Record | None:
    """The newest evaluation of the version, of the one before, or of any."""
    every = sorted(project.records.every("evaluation"), key=lambda r: r.created)
    for wanted in (version, version_before(project, version)):
        if own := [r for r in every if r.partition == wanted]:
            return own[-1]
    return every[-1] if every else None


def _compared() -> Iterator[_Compared]:
    of_a_kind = [m for m in EVALUATION if m.rate and m.label and m.prompts in SETTINGS]
    judged = [m for m in of_a_kind if m.over == "even"]
    for m in judged:
        yield _Compared(m.label, m.prompts, m.column, "")
    for m in judged:
        yield _Compared(f"{m.label}, against another policy", m.prompts, m.column, PLAIN)
    for m in of_a_kind:
        if m.over == "base":
            yield _Compared(m.label, m.prompts, m.column, BASE)


def _needed(project: Project, one: _Compared, rows: pl.DataFrame | None, effect: float, judged: Judged) -> Needed:
    settings, telling = project.settings, Telling.by(project.settings.evaluation)
    spread = _measured(one, rows) or Spread(0.25 if not one.against else 0.5, 0.0, 0)
    if not spread.between + spread.within:  # all alike: an effect would be a few prompts that are not
        spread = Spread(effect * (1 - effect), 0.0, spread.prompts)
    samples = settings.evaluation.samples
    now = {"red-team": settings.prompts.eval_red_team, "helpful": settings.prompts.eval_helpful}
    prompts = prompts_needed(effect, spread.at(samples), telling)
    instead = next((k for k in range(1, MOST_SAMPLES + 1) if now[one.kind] >= telling.enough and detectable_by(
        now[one.kind], spread.at(k), telling) <= effect), None)
    calls = None if prompts is None else calls_of(project, {**now, one.kind: prompts}, judged)
    cost: Mapping[str, Any] = {} if calls is None else cost_of(
        settings, "evaluation", row_rate(project, "evaluation"), calls)
    return Needed(one.label, one.kind, spread.at(samples), spread.prompts,
                  detectable_by(max(now[one.kind], telling.enough), spread.at(samples), telling), samples, prompts,
                  SETTINGS[one.kind], instead, calls, cost.get("tokens"), cost.get("seconds"))


def calls_of(project: Project, prompts: Mapping[str, int], judged: Judged) -> int:
    """At most how many calls an evaluation makes: responses of every policy, and each but the base model's judged
    against that, and against a rival's, in both orders."""
    policies = policy_names(project.settings, judged.absent)
    against = judged.asked * (len(policies) - 1) + 2 * sum({a, b} <= set(policies) for a, b in RIVALS.items())
    return sum(prompts.values()) * project.settings.evaluation.samples * (len(policies) + against)


def _measured(one: _Compared, rows: pl.DataFrame | None) -> Spread | None:
    """The spread of the differences that the rows hold; None of fewer than two prompts."""
    if rows is None:
        return None
    policy = next((p for p in reversed(OWN) if p in rows["policy"].to_list()), None)
    ours = _values(rows, one, policy)
    theirs = _values(rows, one, one.against) if one.against else dict.fromkeys(ours, 0.5)
    by_prompt: defaultdict[str, list[float]] = defaultdict(list)
    for key in sorted(ours.keys() & theirs.keys()):
        by_prompt[key[0]].append(ours[key] - theirs[key])
    return spread_of(list(by_prompt.values()))


def _values(rows: pl.DataFrame, one: _Compared, policy: str | None) -> dict[tuple[str, int], float]:
    there = rows.filter(pl.col("policy") == policy, pl.col("kind") == one.kind, pl.col(one.column).is_not_null())
    number = there["sample"] if "sample" in there.columns else pl.repeat(0, there.height, eager=True)
    return {(p, s): float(v) for p, s, v in zip(there["prompt_id"], number, there[one.column], strict=True)}


def spread_of(by_prompt: Sequence[Sequence[float]]) -> Spread | None:
    """Both parts of the spread of values that belong to prompts, by moments; None of fewer than two prompts."""
    if len(by_prompt) < 2:
        return None
    repeated = [of for of in by_prompt if len(of) > 1]
    within = float(np.mean([np.var(of, ddof=1) for of in repeated])) if repeated else 0.0
    total = float(np.var([np.mean(of) for of in by_prompt], ddof=1))
    once = float(np.mean([1 / len(of) for of in by_prompt]))
    return Spread(max(0.0, total - within * once), within, len(by_prompt))

