"""Arguments of the reinforcement stage's trainers: what one step is, when to measure, when to save."""

from __future__ import annotations

from typing import Any

from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.base import load
from cai_assets.settings import Reinforcement
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.processes import processes
from cai_assets.train.run import trainer_arguments
from cai_assets.train.sampler import vllm_arguments

NEVER = 10**9


def updates_per_step(settings: Reinforcement) -> int:
    """Optimizer updates made from one batch of rollouts. Raise TrainingProblem if they do not divide evenly."""
    if not ALGORITHMS[settings.algorithm].online:
        return 1
    per_update = settings.batch_size * settings.gradient_accumulation * processes()
    if settings.rollouts < 2 or settings.rollouts % per_update:
        raise TrainingProblem(
            f"rl.rollouts={settings.rollouts} must be a multiple (2 or more) of what one update reads, {per_update}:"
            " rl.batch_size times rl.gradient_accumulation times the number of processes"
        )
    return settings.ppo_epochs * settings.rollouts // per_update


def make_config(job: Job, settings: Reinforcement, *, measured: bool = False) -> Any:
    """The TRL configuration of a job. ``measured``: there are held-out prompts."""
    updates = updates_per_step(settings)
    common = trainer_arguments(job, settings, updates=updates)
    common |= _measurements(settings, updates) if measured else {}
    algorithm = ALGORITHMS[settings.algorithm]
    if algorithm.online:
        common |= online_arguments(settings, updates, measured) | vllm_arguments(job, settings)
    return load(algorithm.config)(settings, common)


def _measurements(settings: Reinforcement, updates: int) -> dict[str, Any]:
    """Measure at the start and the end; for the best state also at every save, and load it at the end."""
    if settings.best == "last":
        return {"eval_strategy": "steps", "eval_steps": NEVER, "eval_on_start": True}
    return {"eval_strategy": "steps", "eval_steps": settings.save_every * updates, "eval_on_start": True,
            "load_best_model_at_end": True, "metric_for_best_model": "eval_held_out_reward",
            "greater_is_better": True, "save_total_limit": 3}


def online_arguments(settings: Reinforcement, updates: int, measured: bool) -> dict[str, Any]:
    """Arguments of the algorithms that sample."""
    return {
        "beta": 1.0,  # only so that TRL loads the reference model; Rollouts sets the real coefficient
        "max_steps": settings.steps * updates,
        "epsilon": settings.clip,
        "num_iterations": settings.ppo_epochs,
        "generation_batch_size": settings.rollouts,
        "shuffle_dataset": False,
        "max_completion_length": settings.max_tokens,
        "temperature": settings.temperature,
        "disable_dropout": True,
        **({"num_generations_eval": 1} if measured else {}),
    }
