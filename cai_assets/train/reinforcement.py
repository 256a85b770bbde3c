"""Reinforcement learning from AI feedback (Bai et al. 2022, section 4): PPO, GRPO, RLOO or DPO from the SL policy.

The objective is the reward less ``beta`` times the KL divergence from the SL policy, ``job.base``, in which the policy
starts; with ``alpha`` the supervised loss is added (``supervised_term.py``). KL is in nats per response, measured when
responses are sampled: it describes the policy before that step's updates. One step is one batch of ``rollouts``
responses; in DPO, one update.
"""

from __future__ import annotations

from typing import Any

from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.base import load
from cai_assets.settings import Reinforcement
from cai_assets.train.ability import ability, fluency
from cai_assets.train.data import TrainingRow, read_rows, supervised_rows
from cai_assets.train.feedback import reward_of
from cai_assets.train.fit import metrics as fit_metrics
from cai_assets.train.fit import too_long
from cai_assets.train.job import Job
from cai_assets.train.lora import lora_config
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.rl_config import make_config, updates_per_step
from cai_assets.train.rl_rows import held_out_prompts, training_rows
from cai_assets.train.rl_summary import summary
from cai_assets.train.rl_task import Reward, RLTask
from cai_assets.train.run import COMMON_COLUMNS, fresh_policy, load_causal, publish, train
from cai_assets.train.sharding import sharded, whole_model

COLUMNS = {**COMMON_COLUMNS, "entropy": "entropy", "clip_ratio/region_mean": "clip_fraction"}
SHOWN = ("reward", "kl", "margin")


def run(job: Job, reporter: Reporter) -> None:
    """Optimize the policy by the job's algorithm and publish it."""
    settings = Reinforcement.model_validate(job.settings)
    tokenizer = load_tokenizer(job.base)
    rows, fit = training_rows(job, settings, Templater(tokenizer))
    trainer = make_trainer(job, settings, rows, tokenizer, reward_of(job, settings, tokenizer))
    fit += trainer.task.fit
    if line := too_long(fit_metrics(fit), f"rl.max_length={settings.max_length}"):
        reporter.say(f"warning: {line}")
    before = fluency(job, trainer.model, tokenizer)
    resumed = train(job, trainer, reporter, COLUMNS, shown=SHOWN, updates=updates_per_step(settings))
    model = whole_model(trainer, lambda: fresh_policy(job, settings))
    if trainer.is_world_process_zero():
        metrics = summary(Curves(job.curves).rows(), trainer.state, updates_per_step(settings), settings)
        metrics |= ability(before, fluency(job, model, tokenizer)) | fit_metrics(fit) | {"resumed_from": resumed}
        publish(job, model, load_tokenizer(job.base), metrics)


def make_trainer(
    job: Job, settings: Reinforcement, rows: list[TrainingRow], tokenizer: Any, reward: Reward | None
) -> Any:
    """The trainer of a job. ``rows``: of ``training_rows``; ``reward``: of ``reward_of``, or any of its kind."""
    from datasets import Dataset
    from transformers import set_seed

    set_seed(job.seed)  # adapters are initialized at random
    task = make_task(job, settings, tokenizer, reward)
    model = load_causal(job.base, quantized=settings.quantized)
    model.generation_config.eos_token_id = list(task.stops)
    algorithm = ALGORITHMS[settings.algorithm]
    extra = load(algorithm.extra)(job, settings, tokenizer) if algorithm.extra else {}
    return load(algorithm.trainer)(
        task=task,
        model=model,
        args=sharded(make_config(job, settings, measured=bool(task.held_out))),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in task.held_out]) or None,
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora, "CAUSAL_LM"),
        **extra,
    )


def make_task(job: Job, settings: Reinforcement, tokenizer: Any, reward: Reward | None) -> RLTask:
    """The job's held-out prompts and supervised rows. Raise TrainingProblem if settings contradict each other."""
    templater = Templater(tokenizer)
    held_out, fit = held_out_prompts(job, settings, templater)
    _refuse(settings, measured=bool(held_out) and reward is not None)
    supervised: list[TrainingRow] = []
    if settings.alpha is not None:
        if job.supervised_data is None:
            raise TrainingProblem("rl.alpha is set, but the job names no supervised data")
        source = read_rows(job.supervised_data, ["messages", "response"])
        supervised, more = supervised_rows(source, templater, settings.max_length, "supervised rows")
        fit += more
        if not supervised:
            raise TrainingProblem(f"no row of {job.supervised_data} fits into rl.max_length={settings.max_length}")
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return RLTask(settings, job.seed, reward, templater.stop_token_ids, pad, held_out, supervised, fit)


def _refuse(settings: Reinforcement, *, measured: bool) -> None:
    if settings.best == "reward" and not measured:
        raise TrainingProblem("rl.best='reward' needs a reward and held-out prompts: raise rl.held_out, or give more "
                              "prompts, or set rl.best='last'")
    algorithm = ALGORITHMS[settings.algorithm]
    if algorithm.needs_beta and settings.beta == 0:
        raise TrainingProblem(f"rl.beta=0 leaves {settings.algorithm.upper()} nothing to learn: set it above 0, such "
                              "as 0.1")
    if settings.kl_target is not None and (not algorithm.online or settings.beta == 0):
        raise TrainingProblem("rl.kl_target adapts beta at every step: it needs rl.beta above 0 to start from, and "
                              "an algorithm that samples (not dpo)")
