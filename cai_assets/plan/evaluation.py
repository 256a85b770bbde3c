"""The evaluation half of a plan: a function for each asset that looks at finished policies."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from cai_assets.assets import BASE, RIVALS, TRAINED
from cai_assets.constitution.draw import evaluation_key
from cai_assets.constitution.model import Constitution
from cai_assets.evals.rounds import ROWS_SCHEMA
from cai_assets.pipeline import evaluation
from cai_assets.pipeline.context import as_policy
from cai_assets.pipeline.policies import policy_names
from cai_assets.plan.causes import drawn_before, principle_causes
from cai_assets.plan.dry import PLANNED, DryCompleter, DryRun
from cai_assets.plan.lines import Lines, planned
from cai_assets.steps.questions import ORDERS

JUDGING = "the judge reads responses that do not exist yet"


def plan_evaluation(plan: Lines) -> None:
    stage = plan.stage()
    _, rows, frames = evaluation.evaluation(stage, measures=False)
    dries, judge = _policies(plan, stage), stage.asked["judge"]
    untrained = {name for name in TRAINED if plan.is_new(name)}
    certain = len({key for name, dry in dries.items() if name not in untrained for key in dry.missing}
                  | judge.missing.keys())  # equal calls of two policies are run once
    undecided = _undecided(plan, frames)
    possible = certain + sum(frames[name].height for name in untrained) + undecided
    new = _new(untrained, {name: frame.height for name, frame in frames.items()}, undecided)
    before = plan.constitution_before()
    asked = drawn_before(_adherence_calls(rows, judge.missing), before, "evaluation",
                         lambda row: evaluation_key(row["prompt_id"]))
    drew = principle_causes(asked, before, plan.constitution, "evaluation")
    plan.line("evaluation", sum(d.reused for d in [*dries.values(), judge]), certain, possible,
              causes=plan.with_changes("evaluation", possible, new, drew))


def _policies(plan: Lines, stage: DryRun) -> dict[str, DryCompleter]:
    return {name: stage.asked[as_policy(name)] for name in policy_names(plan.settings, plan.absent)}


def _adherence_calls(rows: pl.DataFrame, missing: Collection[str]) -> pl.DataFrame:
    """The missing calls about an evaluation principle: two a row, and one for equal answers."""
    keys = pl.concat_list("row_key_adherence_first", "row_key_adherence_second")
    calls = rows.select("prompt_id", "principle_id", key=keys).explode("key", empty_as_null=True)
    return calls.filter(pl.col("key").is_in(list(missing))).unique("key", keep="first", maintain_order=True)


def _new(untrained: Collection[str], responses: Mapping[str, int], judged: int) -> dict[str, int]:
    """What untrained policies cause: so many responses of each, and so many questions about them."""
    causes = {f"{name} is new": responses[name] for name in responses if name in untrained}
    return {**causes, JUDGING: judged} if judged else causes


def _undecided(plan: Lines, frames: Mapping[str, pl.DataFrame]) -> int:
    """Calls of the judge that wait for a response: one or two questions on each against the base model's, and one on
    each against a rival's, in both orders."""
    asked = questions_against_base(plan.constitution)
    against_base = sum(asked * _waiting(frame, frames[BASE]) for name, frame in frames.items() if name != BASE)
    return against_base + sum(2 * _waiting(frames[name], frames[rival]) for name, rival in RIVALS.items()
                              if name in frames and rival in frames)


def questions_against_base(constitution: Constitution) -> int:
    """Calls of the judge about one answer and the base model's: one or two questions, in both orders."""
    return len(ORDERS) * (2 if constitution.taking_part("evaluation") else 1)


def _waiting(frame: pl.DataFrame, other: pl.DataFrame) -> int:
    return planned(frame.join(other, on=["prompt_id", "sample"], suffix="_other").with_columns(
        error=pl.coalesce("error", "error_other"))).height


def plan_suites(plan: Lines) -> None:
    stage = plan.stage()
    answers = evaluation.suite_results(stage).answers
    dries, judge = _policies(plan, stage), stage.asked["judge"]
    new = {name: dries[name] for name in TRAINED if plan.is_new(name)}
    # Policies may be one model, as base and base_again are: a call that two of them miss is made once.
    certain = len({key for name, dry in dries.items() if name not in new for key in dry.missing} | judge.missing.keys())
    waiting = sum(a.text is None and a.correct is None and a.item.suite.kind != "ability" for a in answers)
    possible = certain + sum(len(dry.missing) for dry in new.values()) + 2 * waiting  # the judge sees both orders
    causes = _new(new, {name: len(dry.missing) for name, dry in new.items()}, 2 * waiting)
    plan.line("suite_results", sum(d.reused for d in [*dries.values(), judge]), certain, possible,
              causes=plan.with_changes("suite_results", possible, causes))


def plan_rounds(plan: Lines) -> None:
    stage = plan.stage()
    rows = pl.DataFrame(evaluation.round_quality(stage).rows, ROWS_SCHEMA)
    judge = stage.asked["judge"]
    asked_once = rows.filter((pl.col("round") > 1) | (pl.col("against") == "initial"))
    waiting = asked_once.filter(pl.col("judge_error").fill_null("").str.contains(PLANNED, literal=True),
                                pl.col("verdict") == "missing")
    possible = len(judge.missing) + 2 * waiting.height  # each in both orders
    causes = {"revisions are new": 2 * waiting.height} if waiting.height else {}
    plan.line("round_quality", judge.reused, len(judge.missing), possible,
              causes=plan.with_changes("round_quality", possible, causes))
