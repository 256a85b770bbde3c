"""A job of each kind of training on tiny models, for tests of how a training is divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_task import data
from tiny_models import make_job, preference_data, supervised_data

from cai_assets.train.job import Job

ONLINE = ("ppo", "grpo", "rloo")
SHARED = "ppo, one trunk"
TRAININGS = ("supervised", "reward", "dpo", *ONLINE, SHARED)


def job_of(folder: Path, training: str, base: Path, scorer: Path, processes: int, sharding: str, **more: Any) -> Job:
    """The same rows in each update, whatever the number of processes."""
    changes: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 8 // processes, "processes": processes,
                               "sharding": sharding, "save_every": 2, "epochs": 1} | more
    if training == "supervised":
        return make_job(folder, "supervised", base, supervised_data(32), **changes)
    if training == "reward":
        return make_job(folder, "reward", base, preference_data(40, held_out=8), **changes)
    changes |= {"value_model": "shared" if training == SHARED else "own"}
    training = "ppo" if training == SHARED else training
    changes |= {"algorithm": training, "steps": 4, "rollouts": 8, "group": 2, "max_tokens": 6, "ppo_epochs": 1}
    rows = data(training, held_out=3) if training in ONLINE else preference_data(36, held_out=4)
    return make_job(folder, "reinforcement", base, rows, reward_model=scorer, **changes)
