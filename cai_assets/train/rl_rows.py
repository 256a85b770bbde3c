"""The rows of the reinforcement stage as token ids: prompts or pairs to train on, and prompts to measure on."""

from __future__ import annotations

import random

from cai_assets.engines.templating import Templater
from cai_assets.settings import Reinforcement
from cai_assets.train.data import Row, prompt_rows, read_rows
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem


def training_rows(job: Job, settings: Reinforcement, templater: Templater) -> list[Row]:
    """What the algorithm trains on: labelled pairs for DPO, else prompts in the order of the steps."""
    if settings.algorithm != "dpo":
        return prompts(job, settings, templater)
    from cai_assets.train.dpo import pair_rows

    source = [r for r in read_rows(job.data, ["messages", "chosen", "rejected", "p_chosen", "held_out"])
              if not r["held_out"]]
    rows = pair_rows(source, templater, settings.max_length)
    if not rows:
        raise TrainingProblem(f"{job.data} has no pair to train on that fits into rl.max_length={settings.max_length}")
    return rows


def prompts(job: Job, settings: Reinforcement, templater: Templater) -> list[Row]:
    """The prompts of every step in order: all of them shuffled, and again until there are enough."""
    rows = _prompts(job, settings, templater, held_out=False)
    if not rows:
        raise TrainingProblem(f"{job.data} has no prompts to train on")
    draw = random.Random(job.seed)
    wanted = settings.steps * settings.rollouts // (settings.group if settings.algorithm in {"grpo", "rloo"} else 1)
    out: list[Row] = []
    while len(out) < wanted:
        out += draw.sample(rows, len(rows))
    return out[:wanted]


def held_out_prompts(job: Job, settings: Reinforcement, templater: Templater) -> list[Row]:
    """Each prompt that is measured on and not trained on, once."""
    return _prompts(job, settings, templater, held_out=True)


def _prompts(job: Job, settings: Reinforcement, templater: Templater, *, held_out: bool) -> list[Row]:
    room = settings.max_length - settings.max_tokens
    if room < 1:
        raise TrainingProblem(
            f"rl.max_length={settings.max_length} leaves a prompt no room beside rl.max_tokens={settings.max_tokens}"
        )
    read = ["messages", "request"] if settings.reward == "labeller" else ["messages"]
    source = [r for r in read_rows(job.data, [*read, "held_out"]) if r["held_out"] == held_out]
    distinct = list({repr(r["messages"]): r for r in source}.values())  # a prompt has several pairs in DPO
    graded = settings.reward == "labeller"
    return [ids | ({name: row[name] for name in read} if graded else {})
            for ids, row in zip(prompt_rows(distinct, templater, room), distinct, strict=True)]
