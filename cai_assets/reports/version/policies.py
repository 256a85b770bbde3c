"""Policies against each other: wins of a judge, paired differences, and their verdicts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import polars as pl

from cai_assets.assets import AGAIN, BASE, PLAIN, RIVALS
from cai_assets.evals.judge import Question
from cai_assets.evals.metrics import CHECK
from cai_assets.evals.rounds import over_half
from cai_assets.evals.statistics import Estimate, Telling, clustered_difference, told
from cai_assets.reports.compare.words import NAMES
from cai_assets.reports.html.page import Told, told_of
from cai_assets.reports.text.numbers import value_of
from cai_assets.reports.version.evidence import Evidence
from cai_assets.store.canonical import tagged_hash

KINDS: dict[Question, str] = {"harmlessness": "red-team", "helpfulness": "helpful"}
AS_BASE = 0.5  # what wins over the base model look like where nothing differs
ALL = "all"  # where a figure is of no one principle


class Difference(NamedTuple):
    """What one policy's share of wins is above another's, on the same prompts."""

    policy: str
    over: str
    question: Question
    estimate: Estimate
    verdict: str
    told: Told


def name_of(policy: str) -> str:
    return NAMES.get(policy, policy.replace("_", " "))


def metric(evidence: Evidence, policy: str, measure: str, prompts: str) -> Estimate:
    """One estimate of the evaluation's table; unknown if it is not there."""
    table = evidence.table("evaluation")
    rows = [] if table is None else table.filter(policy=policy, metric=measure, prompts=prompts).to_dicts()
    return value_of(rows[0]) if rows else Estimate(None, 0)


def wins(evidence: Evidence, policy: str, question: Question) -> Estimate:
    """The share of comparisons that a policy wins over the base model; of that itself, a half by definition."""
    if policy == BASE:
        return Estimate(AS_BASE, 0)
    return metric(evidence, policy, f"{question}_win_rate", KINDS[question])


def differences(evidence: Evidence) -> list[Difference]:
    """Every policy against the base model and against plain SFT, for both questions."""
    if evidence.rows is None:
        return []
    others = [p for p in evidence.policies if p != BASE]
    pairs = [(p, BASE) for p in others] + [(p, PLAIN) for p in others if p not in {PLAIN, AGAIN} and PLAIN in others]
    pairs += [(p, rival) for p, rival in RIVALS.items() if {p, rival} <= set(others)]
    return [difference(evidence, p, over, q) for p, over in pairs for q in KINDS]


def difference(evidence: Evidence, policy: str, over: str, question: Question) -> Difference:
    """Against the base model and a rival: the share of direct comparisons won, less a half, as the evaluation has it.
    Against another policy: how much more often it wins over the base model, paired by prompt."""
    if over == BASE:
        e = over_half(wins(evidence, policy, question))
    elif RIVALS.get(policy) == over:
        e = over_half(metric(evidence, policy, f"{question}_wins_over_{over}", KINDS[question]))
    else:
        ours, theirs = outcomes(evidence, policy, question), outcomes(evidence, over, question)
        e = clustered_difference(ours, theirs, evidence.confidence)
    return _told(policy, over, question, e, evidence.telling)


def between(before: Evidence, after: Evidence, question: Question) -> Difference:
    """The trained policy of one version against that of another: how much more often it wins over the base model,
    paired by prompt. Only for evaluations that can be compared (``basis``)."""
    ours, theirs = (outcomes(e, e.policy, question) if e.policy else {} for e in (after, before))
    d = clustered_difference(ours, theirs, after.confidence)
    return _told(after.version, before.version, question, d, after.telling)


def _told(policy: str, over: str, question: Question, e: Estimate, telling: Telling) -> Difference:
    verdict = told(e, enough=telling.enough, better="higher")
    return Difference(policy, over, question, e, verdict, told_of(verdict, e, telling))


def outcomes(evidence: Evidence, policy: str, question: Question) -> dict[str, list[float]]:
    """Each prompt's graded outcomes against the base model: 1, one half or 0, one per sample."""
    out: dict[str, list[float]] = defaultdict(list)
    if evidence.rows is not None:
        for r in _graded(evidence.rows, policy, question).iter_rows(named=True):
            out[r["prompt_id"]].append(r["outcome"])
    return dict(out)


def _graded(rows: pl.DataFrame, policy: str, question: Question) -> pl.DataFrame:
    return rows.filter(pl.col("policy") == policy, pl.col("kind") == KINDS[question], pl.col("outcome").is_not_null())


def adherence(evidence: Evidence, policy: str) -> dict[str, Estimate]:
    """Wins over the base model by each principle that judges, by its id."""
    rows = _by_principle(evidence, policy, "adherence")
    return {i: value_of(row) for i, row in rows.items() if i != ALL}


def rules_kept(evidence: Evidence, policy: str) -> dict[str, dict[str, Any]]:
    """How often a policy keeps each principle's check, by its id, and ALL of them: rows of the metrics table, with the
    change from the base model."""
    return _by_principle(evidence, policy, CHECK)


def _by_principle(evidence: Evidence, policy: str, metric: str) -> dict[str, dict[str, Any]]:
    table = evidence.table("evaluation")
    rows = [] if table is None else table.filter(policy=policy, metric=metric).to_dicts()
    return {r["prompts"].removeprefix("principle:"): r for r in rows}


def basis(evidence: Evidence) -> str:
    """Equal for evaluations that can be compared: the same base responses, judge and form of question."""
    base = None if evidence.rows is None else evidence.rows.filter(policy=BASE)
    rows = [] if base is None else sorted(base.select("prompt_id", "row_key").rows())
    judge = evidence.setting("evaluation", "models", "judge") or evidence.setting("evaluation", "models", "generator")
    who = {name: value for name, value in (judge or {}).items() if value}  # unset ones change with the release
    return tagged_hash("basis", [rows, who, evidence.setting("evaluation", "labels", "style")])
