"""What every RL algorithm gets besides its model and rows, and how it logs.

The algorithms are TRL's trainers with mixins in front of them; a mixin reads ``task``, set before TRL's own set-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cai_assets.settings import Reinforcement
from cai_assets.train.data import TrainingRow
from cai_assets.train.fit import Fit

OURS = "ours/"  # before the names of what is logged here: all of these are curves
Reward = Callable[..., list[float]]
"""``reward(prompts=..., completion_ids=..., **columns)``: token ids and the rows' other columns to one score each."""


class RLTask(NamedTuple):
    """``held_out``: ``prompt`` ids and what the reward reads. ``supervised``: ``input_ids`` and ``labels``.
    ``fit``: how many of both were too long."""

    settings: Reinforcement
    seed: int
    reward: Reward | None
    stops: tuple[int, ...]
    pad: int
    held_out: Sequence[TrainingRow] = ()
    supervised: Sequence[TrainingRow] = ()
    fit: Fit = Fit()


class WithTask:
    """Mixin for TRL trainers: ``task``, and numbers averaged over processes and over one step of the curves."""

    task: RLTask
    accelerator: Any
    _metrics: Any

    def _record(self, name: str, values: Any) -> None:
        self._metrics["train"][f"{OURS}{name}"].append(self.accelerator.gather(values.float()).mean().item())


def shaped(settings: Reinforcement, score: Any, length: Any, ended: Any) -> Any:
    """The score less ``missing_eos_penalty`` where the end is missing and ``length_penalty`` for each token.

    Works on numbers and tensors; ``ended`` is 1 or 0. The last token of a response, its end of turn, counts.
    """
    return score - settings.missing_eos_penalty * (1 - ended) - settings.length_penalty * length
