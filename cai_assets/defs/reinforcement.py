"""Reinforcement learning from AI feedback: the RL policy."""

from typing import Any

import dagster as dg

from cai_assets.constitution.digest import question_of
from cai_assets.defs.declared import asset
from cai_assets.defs.launch import train
from cai_assets.defs.metadata import curve_metadata
from cai_assets.defs.records import record_checkpoint
from cai_assets.defs.run import Run
from cai_assets.evals.rubric import asked_of
from cai_assets.pipeline import trainings
from cai_assets.pipeline.trainings import Training
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.reports.checkpoint import principle_rows


@asset("rl_policy")
def rl_policy(run: Run) -> dg.MaterializeResult[None]:
    """The RL-CAI policy, from the SL policy by PPO, GRPO, RLOO or DPO, held near it by a KL penalty.

    ``rl.algorithm`` chooses. The reward model gives the reward, or the labeler itself does, or it answers the questions
    of the principles (``rl.reward``).
    """
    training, algorithm = trainings.rl_policy(run), ALGORITHMS[run.settings.rl.algorithm]
    if run.settings.rl.checks and not any(part.check for part in training.rewards):
        run.tell(f"rl.checks={run.settings.rl.checks:g} rewards nothing: {run.version} has no 'check'")
    if gates := [p.id for p in run.constitution.principles if p.gate] if any(
            part.kind == "scored" for part in training.rewards) else []:
        run.tell(f"the reward model's scores have no level that breaks a rule: 'gate' of {', '.join(gates)} works "
                 "in rl.reward=rubric, and for checks")
    rewarded, rows = training.reward_model, training.rows.height
    by_kind = {"prompts" if algorithm.online else "pairs": rows}
    if training.supervised is not None:
        by_kind["supervised"] = training.supervised.height
    done = train(run, training, card={
        "principles": rewarded.record["principles"] if rewarded else _shaped(run, training), "rows_by_kind": by_kind})
    return record_checkpoint(run, "rl_policy", done, rows=rows,
                             metadata=curve_metadata(done.checkpoint, algorithm.curves))


def _shaped(run: Run, training: Training) -> list[dict[str, Any]]:
    """The principles by whose requests the labeler grades, or labeled the pairs, with the number of rows of each."""
    rows, labels, counts = training.rows, training.labels, dict[str, int]()
    if "principles" in rows.columns:
        counts = dict(rows["principles"].explode().value_counts().iter_rows())
        return [{"id": p.id, "text": question_of(p), "rows": counts.get(p.id, 0)} for p in asked_of(run.constitution)]
    if "graded_by" in rows.columns:
        counts = dict(rows["graded_by"].drop_nulls().value_counts().iter_rows())
    elif labels is not None:
        drew = rows.join(labels.select("pair_id", "principle_id"), on="pair_id")
        counts = dict(drew["principle_id"].drop_nulls().value_counts().iter_rows())
    return principle_rows(run.constitution, counts, "preference")


assets = [rl_policy]
