"""A task whose best policy is known (say 'yes'), and a training on it from one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from tiny_models import make_job, preference_data, prompt_data, supervised_data, tiny_tokenizer

from cai_assets.engines.templating import Templater
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.settings import Reinforcement
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.reinforcement import COLUMNS, SHOWN, make_trainer
from cai_assets.train.rl_config import updates_per_step
from cai_assets.train.rl_rows import training_rows
from cai_assets.train.run import train

YES = tiny_tokenizer().convert_tokens_to_ids("yes")
SMALL: dict[str, Any] = {"steps": 2, "rollouts": 8, "batch_size": 4, "group": 4, "max_tokens": 6}
LEARN: dict[str, Any] = {"steps": 25, "rollouts": 16, "batch_size": 8, "ppo_epochs": 2, "learning_rate": 3e-3,
                         "missing_eos_penalty": 0}
ALL = tuple(name for name, row in ALGORITHMS.own.items() if row.ours)
ONLINE = tuple(name for name in ALL if ALGORITHMS[name].online)


def say_yes(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """The share of 'yes' among the tokens: 1 at best."""
    return [sum(token == YES for token in ids) / len(ids) for ids in completion_ids]


def data(algorithm: str, held_out: int = 0) -> list[dict[str, Any]]:
    return (prompt_data if ALGORITHMS[algorithm].online else preference_data)(12, held_out=held_out)


def job_of(folder: Path, base: Path, held_out: int = 0, **changes: Any) -> Any:
    """A job with the small settings; with ``alpha`` it has supervised data."""
    settings = SMALL | changes
    job = make_job(folder, "reinforcement", base, data(settings.get("algorithm", "ppo"), held_out), **settings)
    if settings.get("alpha"):
        pl.DataFrame(supervised_data(8)).write_parquet(folder / "supervised.parquet")
        job = job.model_copy(update={"supervised_data": folder / "supervised.parquet"})
    return job


def trainer_of(job: Any, reward: Callable[..., list[float]] | None = say_yes) -> Any:
    settings = Reinforcement.model_validate(job.settings)
    tokenizer = tiny_tokenizer()
    return make_trainer(job, settings, training_rows(job, settings, Templater(tokenizer))[0], tokenizer, reward)


def trained(job: Any, trainer: Any, said: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the training and return its curve."""
    updates = updates_per_step(Reinforcement.model_validate(job.settings))
    say = (lambda _: None) if said is None else said.append
    train(job, trainer, Reporter(say), COLUMNS, shown=SHOWN, updates=updates)
    return Curves(job.curves).rows()


def curve(folder: Path, base: Path, **changes: Any) -> list[dict[str, Any]]:
    job = job_of(folder, base, **changes)
    return trained(job, trainer_of(job))


def rollout(trainer: Any, rows: int = 8) -> dict[str, Any]:
    """One batch of responses, as the training makes it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    prompts = [trainer.train_dataset[i // trainer.num_generations] for i in range(rows)]
    batch: dict[str, Any] = trainer._generate_and_score_completions(prompts)
    return batch
