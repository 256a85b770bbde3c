"""A reward of several parts: what principles say of a response, alone or beside another reward.

Each part is one reward of TRL's list, and the last of the list is what makes of their weighted sum the reward that
trains: gates and the penalties of ``rl_task.shaped``. The judge answers all questions about a batch in one call of its
engine, and its answers are rows of the row store, as everywhere (``evals/rubric.py``, ``evals/weighing.py``).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cai_assets.engines.pool import EnginePool, resolve_backend
from cai_assets.evals.judge import Ask
from cai_assets.evals.rubric import RUBRIC, Part, Response, Score, Scorer, scores, table
from cai_assets.evals.weighing import Numbers, Scale, Share, as_they_are, rewards, scaled
from cai_assets.lineage.rollouts import ROLLOUTS_WRITTEN
from cai_assets.settings import Reinforcement, Settings
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore
from cai_assets.train.job import Job, Judge
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.rl_task import Reward

SHAPING = "shaping"  # the last reward of the list
OTHER = "reward"  # the part that no principle gives
HERE = "transformers"  # the labeler runs beside the policy, whose process has no vLLM


class Parted:
    """Rewards by ``parts``, beside ``other`` if there is one, whose weight is 1. Called, it is the reward of each
    response by its parts as they are: what held-out prompts are measured by.

    ``names``, ``shares``: of the columns of ``values``, those of the last batch, ``other`` first.
    """

    def __init__(self, parts: Sequence[Part], *, ask: Ask, style: Any, tokenizer: Any, other: Reward | None = None,
                 model: Scorer | None = None, log: Path | None = None) -> None:
        self.parts, self.other, self.model, self.log = parts, other, model, log
        self.names = [*([OTHER] if other else []), *(part.name for part in parts)]
        self.shares = [*([Share(1.0)] if other else []), *(part.share for part in parts)]
        self._ask, self._style, self._tokenizer = ask, style, tokenizer
        self.values: Numbers = np.zeros((0, len(self.names)))
        self.unread = 0.0  # the share of questions of the last batch that could not be read

    def __call__(self, *, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        self.values = self.score(completion_ids=completion_ids, **columns)
        return self._unscaled(self.values)

    def functions(self) -> list[Reward]:
        """For TRL, which calls them in this order: the first scores the batch. A score that is not there is None."""
        return [*(_named(partial(self._column, i), name) for i, name in enumerate(self.names)),
                _named(lambda completion_ids, **_: [0.0] * len(completion_ids), SHAPING)]

    def reward(self, values: Numbers, scale: Scale) -> tuple[Numbers, Numbers]:
        """The parts in units of their deviation, and the reward of each response."""
        return scaled(values, scale.deviation), rewards(values, self.shares, scale)

    def _unscaled(self, values: Numbers) -> list[float]:
        whole: list[float] = rewards(values, self.shares, as_they_are(len(self.shares))).tolist()
        return whole

    def score(self, *, completion_ids: list[list[int]], keep: bool = False, step: int = 0, **columns: Any) -> Numbers:
        """The parts of each response, NaN where one was not asked. ``keep``: write the rollouts down. Raise
        TrainingProblem if the judge answers no question at all."""
        n = len(completion_ids)
        messages = columns.get("messages") or [[]] * n
        responses = [Response(m, text, names) for m, text, names in zip(
            messages, self._tokenizer.batch_decode(completion_ids, skip_special_tokens=True),
            columns.get("principles") or [()] * n, strict=True)]
        found = scores(responses, self.parts, ask=self._ask, style=self._style, model=self.model)
        self._refuse_unread([s for row in found for s in row if s.keys])
        values = table(found) if self.parts else np.zeros((n, 0))
        if self.other:
            own = self.other(completion_ids=completion_ids, **columns)
            values = np.column_stack([np.array(own, dtype=float), values])
        if keep and self.log:
            self._write(step, responses, found, values)
        return values

    def _column(self, i: int, *, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        if i == 0:
            step = getattr(columns.get("trainer_state"), "global_step", 0)
            self.values = self.score(completion_ids=completion_ids, keep=True, step=step, **columns)
        return [None if math.isnan(value) else value for value in self.values[:, i]]

    def _refuse_unread(self, asked: Sequence[Score]) -> None:
        failed = [s for s in asked if s.value is None]
        self.unread = len(failed) / len(asked) if asked else 0.0
        if asked and len(failed) == len(asked):
            raise TrainingProblem(f"the labeler answered none of {len(asked)} questions about responses: "
                                  f"{failed[0].error}")

    def _write(
        self, step: int, responses: Sequence[Response], found: Sequence[Sequence[Score]], values: Numbers
    ) -> None:
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        process = os.getppid() if several else os.getpid()  # what a resumed training does not share
        lines = [json.dumps({
            "process": process, "update": step, "messages": list(r.messages), "response": r.text, "reward": reward,
            "scores": [{"kind": p.kind, "principle_id": p.principle, "principle_digest": p.digest, "value": s.value,
                        "error": s.error, "row_keys": list(s.keys)}
                       for p, s in zip(self.parts, row, strict=True) if s.keys or p.kind != "question"]})
            for r, row, reward in zip(responses, found, self._unscaled(values), strict=True)]
        with Path(str(self.log)).open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def _named(function: Any, name: str) -> Reward:
    def reward(*, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        values: list[float] = function(completion_ids=completion_ids, **columns)
        return values

    reward.__name__ = name
    return reward


def from_rubric(job: Job, rl: Reinforcement, tokenizer: Any) -> Parted:
    """The answers to the principles' questions, with their checks where the settings ask for them. Raise
    TrainingProblem if the job names no judge."""
    if job.judge is None:
        raise TrainingProblem("rl.reward is 'rubric', but the job names no judge")
    return Parted(job.rewards, ask=asker(job.judge, job.seed), style=job.judge.style, tokenizer=tokenizer,
                  log=job.work / ROLLOUTS_WRITTEN)


def by_principles(job: Job, tokenizer: Any, model: Scorer) -> Parted:
    """The scores of a reward model that reads principles, with checks where the settings ask for them."""
    return Parted(job.rewards, ask=_nobody, style="chat", tokenizer=tokenizer, model=model,
                  log=job.work / ROLLOUTS_WRITTEN)


def beside_checks(job: Job, reward: Reward | None, tokenizer: Any) -> Reward | None:
    """A reward with the checks of the principles beside it, if the job has any."""
    if reward is None or isinstance(reward, Parted) or not job.rewards:
        return reward
    return Parted(job.rewards, ask=_nobody, style="chat", tokenizer=tokenizer, other=reward,
                  log=job.work / ROLLOUTS_WRITTEN)


def asker(judge: Judge, seed: int) -> Ask:
    """Asks the judge, and keeps its answers under the keys that any other asset would use."""
    model, layout = judge.model, Layout(judge.data_root)
    if resolve_backend(model) == "vllm":
        model = model.model_copy(update={"backend": HERE})
    pool = EnginePool(Settings(engine=judge.engine, data_root=judge.data_root), layout)
    complete = Completer(pool.open(model), RowStore(layout), seed=seed)
    return partial(complete, RUBRIC, what="rubric")


def _nobody(calls: Sequence[Any]) -> list[Any]:
    if calls:
        raise TrainingProblem("this reward asks nobody")
    return []
