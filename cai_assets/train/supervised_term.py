"""The combined loss L_SL + alpha x L_RL: supervised learning continues during reinforcement learning.

L_RL is what the algorithm minimizes, that is minus its objective, so a higher alpha reinforces more. L_SL is the mean
negative log-likelihood of the response tokens of a minibatch of the SL data, as large as the algorithm's own. Its rows
come in an order fixed by the seed; which ones a step reads depends on the step alone, so a resumed run reads the same
ones as a run that never stopped. PPO's value loss is no part of L_RL: it is added as it is.

Imports torch at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from cai_assets.train.data import TrainingRow
from cai_assets.train.rl_task import WithTask


class SupervisedTerm(WithTask):
    """Mixin in front of a TRL trainer with ``_compute_loss``."""

    args: Any
    state: Any
    current_gradient_accumulation_steps: int
    loss_is_scaled_for_ga: bool
    _micro: tuple[int, int] = (-1, 0)

    def _compute_loss(self, model: Any, inputs: Any, *rest: Any) -> Tensor:
        loss: Tensor = super()._compute_loss(model, inputs, *rest)  # type: ignore[misc]
        # Some TRL trainers divide by the number of minibatches themselves; for others Trainer divides the sum.
        parts = self.current_gradient_accumulation_steps if self.loss_is_scaled_for_ga else 1
        self._record("policy_loss", loss.detach() * parts)
        alpha = self.task.settings.alpha
        if alpha is None:
            return loss
        supervised = self._supervised_loss(model)
        self._record("sl_loss", supervised.detach())
        return supervised / parts + alpha * loss

    def _supervised_loss(self, model: Any) -> Tensor:
        batch = padded(self._supervised_rows(), self.task.pad, self.accelerator.device)
        loss: Tensor = model(**batch, use_cache=False).loss
        return loss

    def _supervised_rows(self) -> list[TrainingRow]:
        """The next minibatch of this process: minibatches are dealt out to micro-steps and processes in turn."""
        step = self.state.global_step
        micro = self._micro[1] + 1 if self._micro[0] == step else 0
        self._micro = (step, micro)
        number = step * self.args.gradient_accumulation_steps + micro
        minibatch = number * self.accelerator.num_processes + self.accelerator.process_index
        start = minibatch * self.task.settings.batch_size
        rows, seed = self.task.supervised, self.task.seed
        places = range(start, start + self.task.settings.batch_size)
        return [rows[_order(seed, len(rows), i // len(rows))[i % len(rows)]] for i in places]


@lru_cache(maxsize=2)
def _order(seed: int, rows: int, number: int) -> list[int]:
    """The order of rows in one pass over them."""
    return random.Random(f"{seed} {number}").sample(range(rows), rows)


def padded(rows: list[TrainingRow], pad: int, device: Any) -> dict[str, Tensor]:
    """``input_ids``, ``attention_mask`` and ``labels`` (rows, tokens), padded on the right."""
    masked = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    fillers = {"input_ids": pad, "attention_mask": 0, "labels": -100}
    return {name: torch.nn.utils.rnn.pad_sequence([torch.tensor(row[name], device=device) for row in masked],
                                                  batch_first=True, padding_value=filler)
            for name, filler in fillers.items()}
