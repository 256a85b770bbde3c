"""Reinforcement learning from AI feedback (Bai et al. 2022, section 4): PPO against the reward model.

The objective is the reward minus ``beta`` times the KL divergence from the SL policy, ``job.base``, in which the
policy starts. KL is in nats per response, measured when responses are sampled: it describes the policy before
that step's updates. One step is one batch of ``rollouts`` prompts, with one response each.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.settings import Reinforcement
from cai_assets.train.data import Row, prompt_rows, read_rows
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.reward import score_ids
from cai_assets.train.run import COMMON_COLUMNS, load_causal, load_scalar, publish, train, trainer_arguments

OURS = ("reward", "score", "kl", "policy_loss", "value_loss", "response_length", "eos_rate", "tokens")
COLUMNS = {
    **COMMON_COLUMNS,
    **{f"ppo/{name}": name for name in OURS},
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_fraction",
}


def run(job: Job, reporter: Reporter) -> None:
    """Optimise the policy against the reward model and publish it."""
    settings = Reinforcement.model_validate(job.settings)
    if job.reward_model is None:
        raise TrainingProblem("reward_model is not set: reinforcement learning needs one")
    tokenizer = load_tokenizer(job.base)
    refuse_other_tokenizer(tokenizer, job.reward_model)
    rows = prompts(job, settings, Templater(tokenizer))
    reward = model_reward(job.reward_model, settings.batch_size)
    trainer = make_trainer(job, settings, rows, tokenizer, reward)
    resumed = train(
        job, trainer, reporter, COLUMNS, shown=("reward", "kl"), updates=updates_per_step(settings)
    )
    if trainer.is_world_process_zero():
        metrics = summary(Curves(job.curves).rows()) | {"kl_budget": settings.kl_budget, "resumed_from": resumed}
        publish(job, trainer.accelerator.unwrap_model(trainer.model), load_tokenizer(job.base), metrics)


def prompts(job: Job, settings: Reinforcement, templater: Templater) -> list[Row]:
    """The prompts of every step in order: all of them shuffled, and again until there are enough."""
    room = settings.max_length - settings.max_tokens
    if room < 1:
        raise TrainingProblem(
            f"rl.max_length={settings.max_length} leaves a prompt no room beside rl.max_tokens={settings.max_tokens}"
        )
    rows = prompt_rows(read_rows(job.data, ["messages"]), templater, room)
    if not rows:
        raise TrainingProblem(f"{job.data} has no prompts")
    draw = random.Random(job.seed)
    out: list[Row] = []
    while len(out) < settings.steps * settings.rollouts:
        out += draw.sample(rows, len(rows))
    return out[: settings.steps * settings.rollouts]


def updates_per_step(settings: Reinforcement) -> int:
    """Optimiser updates made from one batch of rollouts. Raise TrainingProblem when it does not come out even."""
    per_update = settings.batch_size * settings.gradient_accumulation * int(os.environ.get("WORLD_SIZE", "1"))
    if settings.rollouts < 2 or settings.rollouts % per_update:
        raise TrainingProblem(
            f"rl.rollouts={settings.rollouts} must be a multiple (2 or more) of what one update reads, {per_update}:"
            " rl.batch_size times rl.gradient_accumulation times the number of processes"
        )
    return settings.ppo_epochs * settings.rollouts // per_update


def make_config(job: Job, settings: Reinforcement) -> Any:
    """The PPOConfig of a job."""
    from cai_assets.train.ppo import PPOConfig

    updates = updates_per_step(settings)
    ours = {
        "kl_coefficient": settings.beta,
        "missing_eos_penalty": settings.missing_eos_penalty,
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "value_clip": settings.value_clip,
        "value_coefficient": settings.value_coefficient,
    }
    return PPOConfig(
        **trainer_arguments(job, settings, updates=updates),
        **ours,
        max_steps=settings.steps * updates,
        epsilon=settings.clip,
        loss_type="bnpo",  # the mean over all tokens of the minibatch
        num_iterations=settings.ppo_epochs,
        generation_batch_size=settings.rollouts,
        num_generations=settings.rollouts,  # GRPO asks for groups; PPOTrainer makes none
        shuffle_dataset=False,
        max_completion_length=settings.max_tokens,
        temperature=settings.temperature,
        disable_dropout=True,
    )


def make_trainer(job: Job, settings: Reinforcement, rows: list[Row], tokenizer: Any, reward: Any) -> Any:
    """The PPOTrainer of a job. ``rows`` have ``prompt`` as token ids, in the order they are used."""
    from datasets import Dataset

    from cai_assets.train.ppo import PPOTrainer, ValueModel

    model = load_causal(job.base)
    model.generation_config.eos_token_id = list(Templater(tokenizer).stop_token_ids)
    return PPOTrainer(
        model=model,
        value_model=ValueModel(load_scalar(job.base, tokenizer.eos_token_id)),
        reward=reward,
        args=make_config(job, settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def model_reward(path: Path, batch_size: int) -> Callable[..., list[float]]:
    """A TRL reward function: the reward model's score of the very tokens that were sampled."""
    import torch

    model = load_scalar(path, load_tokenizer(path).pad_token_id)
    model.to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)

    def reward(prompts: list[list[int]], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return score_ids(model, [p + c for p, c in zip(prompts, completion_ids, strict=True)], batch_size)

    return reward


def refuse_other_tokenizer(tokenizer: Any, reward_model: Path) -> None:
    """Raise TrainingProblem unless the reward model reads the same token ids as the policy writes."""
    if load_tokenizer(reward_model).get_vocab() != tokenizer.get_vocab():
        raise TrainingProblem(f"{reward_model} has another vocabulary than the policy; train it from the same base")


def summary(curve: list[dict[str, Any]]) -> dict[str, Any]:
    """First and last reward, last and highest KL (nats per response), and the tokens that were sampled."""
    first, last = curve[0], curve[-1]
    return {
        "steps": len(curve),
        "reward_first": first["reward"],
        "reward_last": last["reward"],
        "score_first": first["score"],
        "score_last": last["score"],
        "kl_last": last["kl"],
        "kl_max": max(row["kl"] for row in curve),
        "tokens_generated": int(sum(row["tokens"] for row in curve)),
    }
