"""The rows of the reinforcement stage as token ids: prompts or pairs to train on, and prompts to measure on."""

from __future__ import annotations

import random
from typing import assert_never

from cai_assets.engines.templating import Templater
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.settings import Reinforcement
from cai_assets.train.data import TrainingRow, pair_rows, prompt_rows, read_rows
from cai_assets.train.fit import Fit
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem


def training_rows(job: Job, settings: Reinforcement, templater: Templater) -> tuple[list[TrainingRow], Fit]:
    """What the algorithm trains on: prompts in the order of the steps, or labeled pairs."""
    reads = ALGORITHMS[settings.algorithm].reads
    match reads:
        case "response_pairs":
            return prompts(job, settings, templater)
        case "preference_pairs":
            return pairs(job, settings, templater)
        case _:
            assert_never(reads)


def pairs(job: Job, settings: Reinforcement, templater: Templater) -> tuple[list[TrainingRow], Fit]:
    """Every pair that is not held out and fits."""
    source = [r for r in read_rows(job.data, ["messages", "chosen", "rejected", "p_chosen", "held_out"])
              if not r["held_out"]]
    rows, fit = pair_rows(source, templater, settings.max_length)
    if not rows:
        raise TrainingProblem(f"{job.data} has no pair to train on that fits into rl.max_length={settings.max_length}")
    return rows, fit


def prompts(job: Job, settings: Reinforcement, templater: Templater) -> tuple[list[TrainingRow], Fit]:
    """The prompts of every step in order: all of them shuffled, and again until there are enough."""
    rows, fit = _prompts(job, settings, templater, held_out=False)
    if not rows:
        raise TrainingProblem(f"{job.data} has no prompts to train on that leave room for rl.max_tokens="
                              f"{settings.max_tokens} within rl.max_length={settings.max_length}")
    draw = random.Random(job.seed)
    wanted = settings.steps * settings.rollouts // (settings.group if ALGORITHMS[settings.algorithm].grouped else 1)
    out: list[TrainingRow] = []
    while len(out) < wanted:
        out += draw.sample(rows, len(rows))
    return out[:wanted], fit


def held_out_prompts(job: Job, settings: Reinforcement, templater: Templater) -> tuple[list[TrainingRow], Fit]:
    """Each held-out prompt, once."""
    return _prompts(job, settings, templater, held_out=True)


def _prompts(
    job: Job, settings: Reinforcement, templater: Templater, *, held_out: bool
) -> tuple[list[TrainingRow], Fit]:
    room = settings.max_length - settings.max_tokens
    if room < 1:
        raise TrainingProblem(
            f"rl.max_length={settings.max_length} leaves no room for a prompt with rl.max_tokens={settings.max_tokens}"
        )
    columns = (*REWARDS[settings.reward].columns, *(["messages"] if job.rewards else []))  # parts read text and keep it
    source = [r for r in read_rows(job.data, list(dict.fromkeys(("messages", *columns, "held_out"))))
              if r["held_out"] == held_out]
    distinct = list({repr(r["messages"]): r for r in source}.values())  # a prompt has several pairs in DPO
    return prompt_rows(distinct, templater, room, columns=tuple(dict.fromkeys(columns)),
                       part="held-out prompts" if held_out else "prompts")
