"""How much a training computes: tokens, and operations by the usual count of two for each parameter and token forward,
and four backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.settings import Reinforcement, Reward, Training
from cai_assets.train.job import TrainingKind
from cai_assets.train.memory import has_value_model

FORWARD, BACKWARD, FROZEN_BACKWARD = 2, 4, 2  # operations; adapters need no gradients of the frozen weights
CHARACTERS = {"low": 6.0, "likely": 4.0, "high": 2.5}  # of a token
DATA = {"texts": ("text",), "supervised": ("response",), "reward": ("chosen", "rejected"),
        "reinforcement": ("chosen", "rejected")}


class Amount(NamedTuple):
    """``tokens`` that are read in training (those that are sampled among them), and ``operations``."""

    tokens: float
    operations: float


def training_amount(
    parameters: int, group: Training, kind: TrainingKind, rows: int, tokens_per_row: float, principles: int = 0
) -> Amount:
    """Of a training on ``rows`` rows, by ``principles`` of them; a pair of responses is two rows of tokens."""
    per_row = min(tokens_per_row, group.max_length)
    if isinstance(group, Reward) and group.model is not None:  # taken as it is: it reads the held-out pairs alone
        tokens = 2 * rows * per_row * group.held_out * (2 if group.input == "principle" else 1)  # shuffled ones, too
        return Amount(tokens, parameters * tokens * FORWARD)
    if isinstance(group, Reinforcement):
        return _reinforced(parameters, group, rows, per_row)
    tokens = rows * per_row * group.epochs * (2 if kind == "reward" else 1)
    if isinstance(group, Reward) and group.input == "principle":
        tokens *= 1 + _controls(group, principles)
    return Amount(tokens, parameters * tokens * _step(group))


def tokens_per_row(data: pl.DataFrame, group: Training, how: str = "likely") -> float:
    """Of the rows that a training reads, by their characters; ``how``: a key of CHARACTERS. A row whose text does not
    exist yet is taken for the mean of the others, and if all are, for the longest that is trained on.
    """
    texts = [name for name in ("text", "response", "chosen", "rejected") if name in data.columns]
    answer = sum((pl.col(name).str.len_chars() for name in texts), start=pl.lit(0)) / max(1, len(texts))
    prompt = (pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
              if "messages" in data.columns else pl.lit(0))
    mean = data.select((prompt + answer).mean()).item() if data.height else None
    sampled = group.max_tokens if isinstance(group, Reinforcement) and ALGORITHMS[group.algorithm].online else 0
    return group.max_length if mean is None else min(mean / CHARACTERS[how] + sampled, group.max_length)


def _reinforced(parameters: int, rl: Reinforcement, rows: int, per_row: float) -> Amount:
    if not ALGORITHMS[rl.algorithm].online:
        tokens = 2 * rows * per_row * rl.epochs
        return Amount(tokens, parameters * tokens * (_step(rl) + FORWARD))  # the reference reads them too
    tokens = rl.steps * rl.rollouts * per_row
    valued = rl.algorithm == "ppo"
    updates = (2 if has_value_model(rl) else 1) * rl.ppo_epochs * _step(rl)
    # Sampled, and read by the reference, the reward model, the policy as it was, and for its value.
    scored = FORWARD * (4 + valued)
    return Amount(tokens, parameters * tokens * (updates + scored))


def _controls(group: Reward, principles: int) -> int:
    """The trainings on as many rows, to round figures, that measure a reward model beside it (train/principled.py)."""
    left_out = principles - 1 if group.leaves_out(principles) else 0  # each lacks its own rows
    return group.trains_blind + left_out


def _step(group: Training) -> int:
    return FORWARD + (BACKWARD if group.lora is None else FROZEN_BACKWARD)
