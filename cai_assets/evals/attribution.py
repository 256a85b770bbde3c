"""What each principle does: the policies of a version without it, or with it alone, beside those of the whole version.

Guarantees: pure; every difference compares the same cases answered on both sides, with equal weight per request or
prompt and an interval over requests; p-values are adjusted for the number of principles tested (Holm 1979), and a
difference is claimed only if both its interval and its adjusted p-value support it and there are enough requests. The
interval does not cover training noise: two training runs on the same data differ, too. The rows of kind 'again', the
whole version rebuilt with another seed, show by how much; ``beyond_again`` says whether an effect is larger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import polars as pl

from cai_assets.assets import OWN, PLAIN
from cai_assets.constitution.derive import DerivationKind
from cai_assets.evals.measures import SUITE_MEASURES, better_is
from cai_assets.evals.statistics import NOT_SEEN, Direction, clustered_difference, holm, paired_p, told
from cai_assets.evals.suites.model import ATTACK, ATTACKS

EFFECTS = pl.Schema({
    "kind": pl.String(), "principle": pl.String(), "seed": pl.Int64(), "seeds": pl.Int64(), "policy": pl.String(),
    "measure": pl.String(), "suite": pl.String(), "better": pl.String(), "reference": pl.Float64(),
    "value": pl.Float64(), "delta": pl.Float64(), "low": pl.Float64(), "high": pl.Float64(), "n": pl.Int64(),
    "unpaired": pl.Int64(), "p": pl.Float64(), "p_holm": pl.Float64(), "verdict": pl.String(),
    "beyond_again": pl.Boolean(),
})
POLICIES = tuple(reversed(OWN))  # what a version stands for first
ALL = "all"
SEEN = ("better", "worse")
FAMILY = ("kind", "policy", "measure", "suite")  # effects that answer one question about several principles
OUTCOME = {"win": 1.0, "tie": 0.5, "loss": 0.0}

EffectRow = dict[str, Any]
Case = tuple[str, ...]  # starts with its suite and its request


class Measured(NamedTuple):
    """What the policies of a version did with one seed: the rows of its suites and its evaluation."""

    suites: pl.DataFrame
    evaluation: pl.DataFrame


class EffectMeasure(NamedTuple):
    """A number for each answer. ``each_suite``: also per suite. ``own``: only over prompts that drew the principle."""

    name: str
    label: str
    better: Direction
    table: Literal["suites", "evaluation"]
    column: str
    where: pl.Expr
    each_suite: bool = False
    own: bool = False


_attack = pl.col("kind").is_in(ATTACKS)
MEASURES = (
    EffectMeasure("attack_success", "attack success", better_is(ATTACK, "compliance"), "suites", "compliance", _attack,
                  each_suite=True),
    EffectMeasure("judged_attack_success", "attack success, judged", better_is(ATTACK, "judged_compliance"), "suites",
                  SUITE_MEASURES["judged_compliance"].column, _attack),
    EffectMeasure("over_refusal", "over-refusal", better_is("over-refusal", "refusal"), "suites", "refusal",
                  pl.col("kind") == "over-refusal"),
    EffectMeasure("harmless_wins", "harmless wins", "higher", "evaluation", "verdict",
                  pl.col("question") == "harmlessness"),
    EffectMeasure("helpful_wins", "helpful wins", "higher", "evaluation", "verdict",
                  pl.col("question") == "helpfulness"),
    EffectMeasure("adherence", "adherence to it", "higher", "evaluation", "adherence_verdict",
                  pl.col("principle_id").is_not_null(), own=True),
)
HEADLINE = MEASURES[0].name


@dataclass(frozen=True)
class Compared:
    """One derived version: which, and what was measured, once for each seed from the first, ``seed``, on."""

    kind: DerivationKind
    principle: str | None
    seeds: Sequence[Measured]
    seed: int = 0


def effects(
    whole: Sequence[Measured], derived: Sequence[Compared], *, enough: int, confidence: float = 0.95,
    measures: Sequence[EffectMeasure] = MEASURES, policies: Sequence[str] = POLICIES,
) -> pl.DataFrame:
    """The table of EFFECTS, in the order of ``derived``.

    ``whole``: the whole version, once for each seed. A derived version is compared with as many seeds as it has
    itself, and the rebuilt version with the first. ``delta``: the derived version's rate less that of the whole
    version; of kind 'only', less that of the SFT baseline. ``unpaired``: cases answered on one side only.
    ``beyond_again``: whether the difference is larger than every difference from rebuilding the whole version;
    null where it was not rebuilt.
    """
    rows = [row for one in derived for policy in policies for measure in measures
            for row in _rows(whole[: len(one.seeds)], one, policy, measure, enough, confidence)]
    _adjust(rows, 1 - confidence)
    _set_beside_again(rows)
    return pl.DataFrame(rows, schema=EFFECTS)


def _rows(
    whole: Sequence[Measured], one: Compared, policy: str, measure: EffectMeasure, enough: int, confidence: float
) -> Iterator[EffectRow]:
    derived = _cases(one.seeds, policy, measure, one.principle)
    reference = _cases(whole, PLAIN if one.kind == "only" else policy, measure, one.principle)
    suites = sorted({case[0] for case in (*derived, *reference)}) if measure.each_suite else []
    for suite in (ALL, *suites):
        after, before = ({c: v for c, v in side.items() if suite in (ALL, c[0])} for side in (derived, reference))
        yield {
            "kind": one.kind, "principle": one.principle, "seed": one.seed, "seeds": len(one.seeds),
            "policy": policy, "measure": measure.name, "suite": suite, "better": measure.better,
            **_difference(after, before, measure, enough, confidence)}


def _cases(seeds: Sequence[Measured], policy: str, measure: EffectMeasure, principle: str | None) -> dict[Case, float]:
    """The mean of each case over samples and seeds."""
    in_suites = measure.table == "suites"
    names = ("suite", "behaviour", "mode", "case_id") if in_suites else ("prompt_id",)
    values: defaultdict[Case, list[float]] = defaultdict(list)
    for measured in seeds:
        frame = (measured.suites if in_suites else measured.evaluation).filter(
            pl.col("policy") == policy, measure.where)
        if measure.own and principle is not None:
            frame = frame.filter(pl.col("principle_id") == principle)
        for *case, value in frame.select(*names, measure.column).drop_nulls(measure.column).iter_rows():
            number = OUTCOME.get(value) if isinstance(value, str) else float(value)
            if number is not None:
                values[tuple(case) if in_suites else ("", *case)].append(number)
    return {case: _mean(of) for case, of in values.items()}


def _difference(
    derived: Mapping[Case, float], reference: Mapping[Case, float], measure: EffectMeasure, enough: int,
    confidence: float,
) -> EffectRow:
    shared = sorted(derived.keys() & reference.keys())
    a, b = _by_request(derived, shared), _by_request(reference, shared)
    delta = clustered_difference(a, b, confidence)
    each = [(_mean(b[request]), _mean(a[request])) for request in a]
    p = paired_p([after - before for before, after in each]) if each else None
    return {
        "reference": _mean([before for before, _ in each]) if each else None,
        "value": _mean([after for _, after in each]) if each else None,
        "delta": delta.value, "low": delta.low, "high": delta.high, "n": delta.n,
        "unpaired": len(derived.keys() ^ reference.keys()), "p": p, "p_holm": p,
        "verdict": told(delta, enough=enough, better=measure.better), "beyond_again": None}


def _by_request(values: Mapping[Case, float], cases: Sequence[Case]) -> dict[str, list[float]]:
    by_request: defaultdict[str, list[float]] = defaultdict(list)
    for case in cases:
        by_request[case[1]].append(values[case])
    return dict(by_request)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _adjust(rows: Sequence[EffectRow], alpha: float) -> None:
    """Adjust the p-values of rows that answer one question about several principles; withdraw verdicts that fail."""
    families: defaultdict[tuple[str, ...], list[EffectRow]] = defaultdict(list)
    for row in rows:
        if row["p"] is not None:
            families[tuple(row[name] for name in FAMILY)].append(row)
    for family in families.values():
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
            if row["verdict"] in SEEN and p > alpha:
                row["verdict"] = NOT_SEEN


def with_tests(effects: pl.DataFrame) -> pl.DataFrame:
    """The table of EFFECTS with ``tests``: how many p-values each was adjusted for, itself among them."""
    return effects.with_columns(tests=pl.col("p").count().over(FAMILY).clip(1))


def _set_beside_again(rows: Sequence[EffectRow]) -> None:
    """Mark whether each effect is larger than what rebuilding the whole version changed."""
    moved: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    measured = [row for row in rows if row["delta"] is not None]
    for row in measured:
        if row["kind"] == "again":
            moved[row["policy"], row["measure"], row["suite"]].append(abs(row["delta"]))
    for row in measured:
        others = moved.get((row["policy"], row["measure"], row["suite"]))
        if others and row["kind"] != "again":
            row["beyond_again"] = abs(row["delta"]) > max(others)
