"""The evaluation half of a plan: a function for each asset that looks at finished policies.

``trained``: for each policy its checkpoint, or None if the policy is still to be trained.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cai_assets import stages
from cai_assets.lineage.checkpoints import Checkpoint
from cai_assets.plan.causes import principle_causes
from cai_assets.plan.dry import PLANNED
from cai_assets.plan.lines import Lines, planned


def plan_evaluation(plan: Lines, responses: pl.DataFrame, trained: Mapping[str, Checkpoint | None]) -> None:
    prompts = stages.evaluation_prompts(responses)
    dries = {"base": plan.dry("policy"), **{name: plan.dry(c) for name, c in trained.items()}}
    frames = {name: stages.policy_responses(plan.settings, prompts, complete=dry, policy=name)
              for name, dry in dries.items()}
    judge = plan.dry("judge")
    _, rows = stages.judged(plan.settings, plan.constitution, frames, complete=judge)
    asked = 4 if plan.constitution.taking_part("evaluation") else 2  # two questions or one, each in both orders
    unknown = sum(planned(frame).height for frame in frames.values())
    compared = sum(planned(f.join(frames["base"], on="prompt_id", suffix="_base").with_columns(
        error=pl.coalesce("error", "error_base"))).height for n, f in frames.items() if n != "base")
    known = [dries[name] for name in dries if name == "base" or trained[name]]
    certain = sum(len(d.missing) for d in [*known, judge])
    reuse = sum(d.reused for d in [*dries.values(), judge])
    new = {f"{name} is new": prompts.height for name, c in trained.items() if c is None}
    possible = unknown + len(judge.missing) + asked * compared
    changes = dict.fromkeys(plan.changes("evaluation"), possible)
    waiting = rows.filter(pl.col("adherence_error").fill_null("").str.contains(PLANNED, literal=True))
    drew = principle_causes(waiting, plan.constitution_before(), plan.constitution, "evaluation")
    plan.line("evaluation", reuse, certain, possible, causes={**new, **(changes or drew)})
