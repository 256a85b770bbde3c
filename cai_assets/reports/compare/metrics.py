"""How each policy's figures moved, measured on the same prompts in both versions.

Guarantees: a difference is of pairs, one prompt each, with an interval over prompts; prompts that only
one side has, or that one side could not grade, are counted; what may be said of it says ``evals/statistics.told``, or
that the responses are the same. Adherence is compared only on prompts that the same request
judged in both versions. Both sides' answers are held to the checks that the constitution has after the change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from cai_assets.constitution.check import Check
from cai_assets.evals.measures import EVALUATION, EvaluationMeasure, evaluation_measure
from cai_assets.evals.metrics import CHECK
from cai_assets.evals.rules import keeps
from cai_assets.evals.statistics import Telling, clustered_difference, told
from cai_assets.settings.method import CONFIDENCE, ENOUGH

KEYS = ("prompt_id", "prompt")
SCHEMA: dict[str, Any] = {
    "policy": pl.String, "metric": pl.String, "prompts": pl.String, "before": pl.Float64, "after": pl.Float64,
    "delta": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64, "only_before": pl.Int64,
    "only_after": pl.Int64, "ungraded": pl.Int64, "same_response": pl.Int64, "verdict": pl.String,
}
SAME = "the same responses"
OTHER_RULE = "found by another rule"
USUAL = Telling(CONFIDENCE, ENOUGH)


MEASURES = tuple(m for m in EVALUATION if m.label)
OF_A_PRINCIPLE = f"{CHECK}:"  # before a principle's id: the column of what its check says


def deltas(
    before: pl.DataFrame, after: pl.DataFrame, same_requests: Sequence[str] = (), *, telling: Telling = USUAL,
    checks: Sequence[tuple[str, Check]] = (),
) -> pl.DataFrame:
    """SCHEMA, one row for each policy in both and measure. ``before``, ``after``: rows of an evaluation, with the
    column ``prompt``. ``same_requests``: principles whose evaluation request is the same in both constitutions.
    ``checks``: of principles, to which the answers of both are held."""
    old, new = (ready(f, same_requests, checks) for f in (before, after))
    evaluated = set(new["policy"])
    policies = [p for p in old["policy"].unique(maintain_order=True) if p in evaluated]
    rows = [row for p in policies for row in _policy(p, old.filter(policy=p), new.filter(policy=p), telling)]
    return pl.DataFrame(rows, schema=SCHEMA)


def by_another_rule(metrics: pl.DataFrame) -> pl.DataFrame:
    """The same metrics, without the differences in refusals: of those, the two rules make one of their own."""
    refusals = pl.col("metric") == "refusal"
    blank = [pl.when(~refusals).then(pl.col(name)).alias(name) for name in ("delta", "low", "high")]
    return metrics.with_columns(*blank, verdict=pl.when(refusals).then(pl.lit(OTHER_RULE)).otherwise("verdict"))


def label_of(row: Mapping[str, Any]) -> str:
    """What is measured in a row of ``deltas``, in two words."""
    if row["metric"] == CHECK and row["prompts"] != "all":
        return f"keeps {row['prompts'].partition(':')[2]}"
    return evaluation_measure(row["metric"], row["prompts"]).label


def ready(rows: pl.DataFrame, same_requests: Sequence[str], checks: Sequence[tuple[str, Check]]) -> pl.DataFrame:
    """Rows of an evaluation with a column for every measure, as ``deltas`` compares them."""
    return _held(_prepared(rows, same_requests), checks)


def _held(rows: pl.DataFrame, checks: Sequence[tuple[str, Check]]) -> pl.DataFrame:
    """Add whether each answer keeps each check, and ``check``, whether it keeps all of them; null without checks."""
    answers = rows["response"].to_list()
    kept = [pl.Series(f"{OF_A_PRINCIPLE}{principle}", [None if a is None else keeps(check, a) for a in answers],
                      dtype=pl.Boolean) for principle, check in checks]
    every = pl.all_horizontal([s.name for s in kept]) if kept else pl.lit(None, pl.Boolean)
    return rows.with_columns(kept).with_columns(every.alias(CHECK))


def measures_of(rows: pl.DataFrame) -> Iterator[EvaluationMeasure]:
    """Those that rows which are ``ready`` have; the check of each principle is one."""
    for m in MEASURES:
        yield m
        if m.name == CHECK:
            yield from (replace(m, column=c, prompts=f"principle:{c.removeprefix(OF_A_PRINCIPLE)}")
                        for c in rows.columns if c.startswith(OF_A_PRINCIPLE))


def _prepared(rows: pl.DataFrame, same_requests: Sequence[str]) -> pl.DataFrame:
    wins = pl.col("adherence_verdict").replace_strict({"win": 1.0, "tie": 0.5, "loss": 0.0}, default=None,
                                                      return_dtype=pl.Float64)
    missing = [pl.lit(None, pl.String).alias(c) for c in ("adherence_verdict", "principle_id") if c not in rows.columns]
    return rows.with_columns(missing).with_columns(
        pl.when(pl.col("principle_id").is_in(list(same_requests))).then(wins).alias("adherence_outcome"),
        pl.col("response").is_null().alias("failed"))


def _policy(policy: str, old: pl.DataFrame, new: pl.DataFrame, telling: Telling) -> Iterator[dict[str, Any]]:
    for m in measures_of(new):
        before, after = (asked(m, f) for f in (old, new))
        if all(f[m.column].null_count() == f.height for f in (before, after)):
            continue
        yield {"policy": policy, "metric": m.name, "prompts": m.prompts, **_row(m, before, after, telling)}


def asked(m: EvaluationMeasure, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the prompts that a measure is of."""
    return rows if m.prompts == "all" or m.name == CHECK else rows.filter(kind=m.prompts)


def by_prompt(m: EvaluationMeasure, rows: pl.DataFrame) -> pl.DataFrame:
    """KEYS, ``row_key`` and ``value``: a prompt that was answered several times is one observation."""
    return rows.group_by(KEYS).agg(pl.col("row_key").sort(), pl.col(m.column).cast(pl.Float64).mean().alias("value"))


def _row(m: EvaluationMeasure, old: pl.DataFrame, new: pl.DataFrame, telling: Telling) -> dict[str, Any]:
    a, b = (by_prompt(m, f) for f in (old, new))
    pairs = a.join(b, on=KEYS, how="inner", suffix="_after", nulls_equal=True).sort(*KEYS)
    graded = pairs.drop_nulls(["value", "value_after"])
    after, before = ({i: [v] for i, v in zip(map(str, range(graded.height)), graded[name], strict=True)}
                     for name in ("value_after", "value"))
    e = clustered_difference(after, before, telling.confidence, bounds=(-1.0, 1.0) if m.rate else None)
    same = graded.filter(pl.col("row_key") == pl.col("row_key_after")).height
    unchanged = same == graded.height > 0 and (graded["value"] == graded["value_after"]).all()
    return {
        "before": graded["value"].mean(), "after": graded["value_after"].mean(), "delta": e.value, "low": e.low,
        "high": e.high, "n": e.n, "only_before": a.height - pairs.height, "only_after": b.height - pairs.height,
        "ungraded": pairs.height - graded.height, "same_response": same,
        "verdict": SAME if unchanged else told(e, enough=telling.enough, better=m.better),
    }
