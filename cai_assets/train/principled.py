"""A reward model that reads a principle: what it sees, how it scores, and what is measured beside it.

The principle stands before the conversation, in its system turn, so that one model gives a reward for each principle
and the reward of a response is their weighted sum (RLBFF, Wang et al. 2025, arXiv 2509.21319; RewardAnything, Yu et al.
2025, arXiv 2506.03637). Guarantee: its controls are measured on the same held-out votes: a model that saw no principle
('blind'), its own scores by principles drawn at random ('shuffled'), and models that never saw a vote by the principle
that they are measured by ('left_out').
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cai_assets.engines.number_format import Format
from cai_assets.engines.protocol import Message
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.evals.reward import Result, accuracy, accuracy_by, outcomes
from cai_assets.evals.rubric import Response, Scorer
from cai_assets.settings import Reward
from cai_assets.train.data import TrainingRow
from cai_assets.train.job import Job
from cai_assets.train.scoring import on_device, score_ids

TEXT = "Judge the assistant's last answer by this principle: {}"
ALL = ""  # stands for all principles together, in measures by principle id
Measure = Callable[[Sequence[TrainingRow]], list[Result]]
Train = Callable[[Job, Sequence[TrainingRow]], Measure]


def conditioned(messages: Sequence[Message], principle: str | None) -> list[Message]:
    """A conversation as the reward model reads it; as it is, without a principle."""
    if principle is None:
        return [*messages]
    system = "\n\n".join([TEXT.format(principle), *(m["content"] for m in messages if m["role"] == "system")])
    return [{"role": "system", "content": system}, *(m for m in messages if m["role"] != "system")]


def scorer(path: Path, batch_size: int, dtype: Format) -> Scorer:
    """Scores of responses by principles, by the reward model in a folder, in tokens of its own."""
    model, templater = on_device(path), Templater(load_tokenizer(path))

    def score(responses: Sequence[Response], principles: Sequence[str]) -> list[list[float]]:
        sequences = []
        for response in responses:
            for principle in principles:
                prompt, ids = templater.encode_response(conditioned(response.messages, principle), response.text)
                sequences.append(prompt + ids)
        rewards, n = score_ids(model, sequences, batch_size, dtype=dtype), len(principles)
        return [rewards[i * n:(i + 1) * n] for i in range(len(responses))]

    return score


def controls(job: Job, settings: Reward, rows: Sequence[TrainingRow], own: Measure, train: Train) -> dict[str, Any]:
    """The held-out accuracy by principle id (ALL: of all) of the model and of its controls. ``rows``: all of the data,
    with ``principle`` and ``principle_id``; ``own`` measures the model, and ``train`` trains another."""
    found = {"own": _accuracies(rows, own(rows)), "shuffled": _accuracies(rows, own(_shuffled(rows, job.seed)))}
    ids = sorted({row["principle_id"] for row in rows})
    if settings.trains_blind:
        blind = [{**row, "principle": None} for row in rows]
        found["blind"] = _accuracies(rows, _apart(job, "blind", blind, train)(blind))
    if settings.leaves_out(len(ids)):
        found["left_out"] = {}
        for i, left_out in enumerate(ids):
            measure = _apart(job, f"without-{i}", [r for r in rows if r["principle_id"] != left_out], train)
            found["left_out"] |= {k: x for k, x in _accuracies(rows, measure(rows)).items() if k == left_out}
    return found


def _apart(job: Job, name: str, rows: Sequence[TrainingRow], train: Train) -> Measure:
    """A model trained on other rows in a folder of its own, of which nothing is kept."""
    work = job.work / f"control-{name}"
    work.mkdir(parents=True, exist_ok=True)
    try:
        return train(job.model_copy(update={"work": work}), rows)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _shuffled(rows: Sequence[TrainingRow], seed: int) -> list[TrainingRow]:
    """Each by a principle drawn from all of them, its own among them."""
    texts, draw = sorted({row["principle"] for row in rows}), random.Random(seed)
    return [{**row, "principle": draw.choice(texts)} for row in rows]


def _accuracies(rows: Sequence[TrainingRow], results: Sequence[Result]) -> dict[str, Mapping[str, Any]]:
    decided = [r for r in results if r.p_chosen != 0.5]
    whole = accuracy(outcomes([r.margin for r in decided], [r.p_chosen for r in decided])) if decided else None
    by = accuracy_by(results, [row["principle_id"] for row in rows])
    return {**({ALL: asdict(whole)} if whole else {}), **{name: asdict(x) for name, x in by.items()}}
