"""Where the reward of a response comes from: the reward model, or the labeler's own grade of it.

Both read exactly the tokens that were sampled and give one number per response. The labeler's grade (direct-RLAIF, Lee
et al. 2023, arXiv 2309.00267, section 3.2.2) answers the request that the prompt drew, in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cai_assets import settings
from cai_assets.engines.number_format import Format, product_format
from cai_assets.engines.protocol import ModelIdentity, Request, Result, Style
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.base import load
from cai_assets.registry.rewards import REWARDS
from cai_assets.steps.grade import expected_grade, grade_call
from cai_assets.train.job import Job
from cai_assets.train.parted import beside_checks, by_principles
from cai_assets.train.principled import scorer
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.rl_task import OURS, Reward
from cai_assets.train.scoring import on_device, score_ids

NEUTRAL = 0.0


def reward_of(job: Job, rl: settings.Reinforcement, tokenizer: Any) -> Reward | None:
    """The reward that a job asks for. An algorithm that does not sample may have none, and is then not measured."""
    reward: Reward | None = load(REWARDS[rl.reward].make)(job, rl, tokenizer)
    if reward is not None and REWARDS.origin(rl.reward) is not None:
        reward = _checked(rl.reward, reward)
    return beside_checks(job, reward, tokenizer)


def _checked(name: str, reward: Reward) -> Reward:
    """A reward from another package, whose values are validated before they train anything."""
    def checked(*, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        scores = reward(completion_ids=completion_ids, **columns)
        if len(scores) != len(completion_ids) or not all(math.isfinite(s) for s in scores):
            raise TrainingProblem(f"the reward {name!r} gave {scores!r} for {len(completion_ids)} responses, but must "
                                  "return one finite number for each")
        return scores

    return checked


def from_labeller(job: Job, rl: settings.Reinforcement, tokenizer: Any) -> Reward:
    """The labeler's grades. Raise TrainingProblem if the job names none."""
    if job.labeller is None:
        raise TrainingProblem("rl.reward is 'labeller', but the job names no labeler model")
    return labeller_reward(job.labeller, tokenizer, job.dtype)


def from_reward_model(job: Job, rl: settings.Reinforcement, tokenizer: Any) -> Reward | None:
    """The reward model's scores. Raise TrainingProblem if the job names none and the algorithm needs one."""
    if job.reward_model is None:
        if not ALGORITHMS[rl.algorithm].online:
            return None
        raise TrainingProblem("reward_model is not set: reinforcement learning needs one, or rl.reward='labeller'")
    if any(part.kind == "scored" for part in job.rewards):  # it reads text, in tokens of its own
        return by_principles(job, tokenizer, scorer(job.reward_model, rl.batch_size, job.dtype))
    refuse_other_tokenizer(tokenizer, job.reward_model)
    return model_reward(job.reward_model, rl.batch_size, job.dtype)


def model_reward(path: Path, batch_size: int, dtype: Format = "float32") -> Reward:
    """The reward model's score of exactly the tokens that were sampled."""
    model = on_device(path)

    def reward(prompts: list[list[int]], completion_ids: list[list[int]], **_: Any) -> list[float]:
        sequences = [p + c for p, c in zip(prompts, completion_ids, strict=True)]
        return score_ids(model, sequences, batch_size, dtype=dtype)

    return reward


def refuse_other_tokenizer(tokenizer: Any, reward_model: Path) -> None:
    """Raise TrainingProblem unless the reward model reads the same token ids as the policy writes."""
    if load_tokenizer(reward_model).get_vocab() != tokenizer.get_vocab():
        raise TrainingProblem(f"{reward_model} has a different vocabulary than the policy; train it from the same base")


def labeller_reward(path: Path, tokenizer: Any, dtype: Format) -> Reward:
    """The labeler's expected grade of each response; ``tokenizer``: the policy's, which reads the responses.

    Rows must carry ``messages`` and ``request``. A response that cannot be graded gets the middle of the scale, and
    the share of such responses is logged; if none can be graded, TrainingProblem says why.
    """
    # In an emulated format a grade would be slow and coarse.
    engine = settings.Engine(dtype=product_format(dtype))
    labeller = TransformersEngine(path, ModelIdentity(weights="", tokenizer="", template=""), engine)
    style: Style = "plain" if Templater(load_tokenizer(path)).framed else "chat"

    def reward(
        completion_ids: list[list[int]], messages: Sequence[Any], request: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None, **_: Any,
    ) -> list[float]:
        texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        calls = [grade_call(m, text, wish, style) for m, text, wish in zip(messages, texts, request, strict=True)]
        requests = [Request(row_key=str(i), seed=0, call=call) for i, call in enumerate(calls)]
        results = sorted(labeller.run(requests), key=lambda r: int(r.row_key))
        grades = [None if r.error else expected_grade(r.logprobs) for r in results]
        if log_metric:
            log_metric(f"{OURS}ungraded", sum(g is None for g in grades) / len(grades))
        return _graded(grades, results)

    return reward


def _graded(grades: Sequence[float | None], results: Sequence[Result]) -> list[float]:
    if grades and all(g is None for g in grades):
        why = next((r.error for r in results if r.error), "it assigns no probability to any of the grades")
        raise TrainingProblem(f"the labeler could not grade any of {len(grades)} responses: {why}")
    return [NEUTRAL if g is None else g for g in grades]
