"""The policies of several versions on one scale, from the comparisons that their evaluations stored.

Guarantees: nothing is run; only prompts count that every version answered with the same responses of the base model;
versions that another judge judged, or that were asked in another form, are refused. A policy that gave the same
responses in every version stands once, under its own name; others as POLICY@VERSION.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from cai_assets.assets import BASE
from cai_assets.errors import CaiError
from cai_assets.evals.judge import Question
from cai_assets.evals.power import in_words
from cai_assets.evals.ranking import Contest, Ranking, Standing, rank
from cai_assets.evals.statistics import FEW, NOT_SEEN, Estimate, Telling
from cai_assets.pipeline.contents import comparable, of_record
from cai_assets.reports.compare.sides import Side, side
from cai_assets.settings.method import CONFIDENCE, ENOUGH
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, RecordMissing

RowsByVersion = Mapping[str, list[dict[str, Any]]]  # rows of the evaluation by version


class NotComparable(CaiError, ValueError):
    """These versions' evaluations cannot stand in one table. The message says why, and what to do."""


class NothingGraded(NotComparable):
    """No comparison on this question was graded."""


def ranking(
    layout: Layout, names: Sequence[str], question: Question, *, confidence: float = CONFIDENCE, enough: int = ENOUGH
) -> Ranking:
    """Rank the policies of versions, rounds or records. Raise NotComparable, RecordMissing, UnknownVersion or
    UnknownTarget."""
    sides = [side(layout, name) for name in dict.fromkeys(names)]
    _same_judge(sides)
    contests = list(_contests({s.name: _rows(s) for s in sides}, question))
    if not contests:
        raise NothingGraded(f"no comparison on {question} was graded in {', '.join(s.name for s in sides)}")
    return rank(contests, reference=BASE, confidence=confidence, enough=enough)


def as_dict(ranking: Ranking) -> dict[str, Any]:
    """Plain JSON; an infinite end is null, like an unknown one."""
    policies = [{"policy": s.policy, "strength": _plain(s.strength), "wins_over_reference": _plain(s.wins),
                 "comparisons": s.comparisons, "prompts": s.strength.n, "verdict": s.verdict, "why": s.why,
                 "detectable": s.detectable}
                for s in ranking.standings]
    return {"reference": ranking.reference, "comparisons": ranking.comparisons, "prompts": ranking.prompts,
            "policies": policies}


def beside(s: Standing, telling: Telling) -> str:
    """What belongs beside a verdict that claims nothing."""
    return in_words(s.detectable, s.strength.n, telling) if s.verdict in {FEW, NOT_SEEN} else ""


def _plain(e: Estimate) -> dict[str, float | None]:
    return {name: x if x is None or math.isfinite(x) else None
            for name, x in (("value", e.value), ("low", e.low), ("high", e.high))}


def _rows(s: Side) -> list[dict[str, Any]]:
    table = s.detail("evaluation", "rows")
    if table is None:
        raise RecordMissing(f"{s.name} has not been evaluated: run cai materialize {s.version} --select evaluation")
    if "rival" not in table.columns:
        table = table.with_columns(sample=pl.lit(0), rival=pl.lit(None, pl.String))
    return table.to_dicts()


def _same_judge(sides: Sequence[Side]) -> None:
    evaluations = {s.name: s.records["evaluation"] for s in sides if "evaluation" in s.records}
    if not all(_one_judge(a, b) for a, b in pairwise(evaluations.values())):
        judges = {name: _judge(record.settings) for name, record in evaluations.items()}
        listed = "; ".join(f"{name}: {judge}, labels.style={style}" for name, (judge, style) in judges.items())
        raise NotComparable(f"these evaluations were judged differently ({listed}): materialize evaluation again with "
                            "the same models.judge and labels.style")


def _one_judge(a: Record, b: Record) -> bool:
    before, now = comparable(of_record(a), of_record(b))
    return _judge(before) == _judge(now)


def _judge(settings: Mapping[str, Any]) -> tuple[str, str]:
    models = settings.get("models", {})
    model = models.get("judge") or models.get("generator") or {}
    return str(model.get("source")) + str(model.get("revision") or ""), str(settings.get("labels", {}).get("style"))


def _contests(rows: RowsByVersion, question: Question) -> Iterator[Contest]:
    answers = ({(*_place(r), r["row_key"]) for r in of if r["policy"] == BASE} for of in rows.values())
    shared = set.intersection(*answers)
    if not shared:
        raise NotComparable(f"{' and '.join(rows)} share no base responses: they were evaluated on other prompts, with "
                            "another base model, or with other generation settings")
    places = {place[:2] for place in shared}
    kept = {name: [r for r in of if _place(r) in places] for name, of in rows.items()}
    names, seen = _names(kept), set[tuple[str, str, int, str]]()
    for version, of in kept.items():
        for r in (r for r in of if r.get("question") == question):
            own = names[version, r["policy"]]
            for rival, outcome in ((BASE, r["outcome"]), (names.get((version, r["rival"])), r.get("rival_outcome"))):
                contest = (own, str(rival), r["sample"], r["prompt_id"])
                if rival is not None and outcome is not None and contest not in seen:
                    seen.add(contest)
                    yield Contest(r["prompt_id"], own, rival, outcome)


def _names(rows: RowsByVersion) -> dict[tuple[str, str], str]:
    """What each version's policies are called in the table."""
    answers: dict[tuple[str, str], set[tuple[Any, ...]]] = {}
    for version, of in rows.items():
        for r in of:
            answers.setdefault((version, r["policy"]), set()).add((*_place(r), r["row_key"]))
    same = {p for v, p in answers if all(answers.get((other, p)) == answers[v, p] for other in rows)}
    return {(v, p): p if p in same else f"{p}@{v}" for v, p in answers}


def _place(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["prompt_id"], row["sample"]
