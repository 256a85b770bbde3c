"""REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740), as TRL's RLOOTrainer has it.

The advantage of a response is its reward, less beta times its KL, less the mean of the others in its group (``group``
responses to one prompt). A response is one action, with one probability ratio. The KL penalty is part of the reward,
whatever ``kl_in`` says; there is no value model.

Imports trl at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from typing import Any

from trl import RLOOConfig
from trl import RLOOTrainer as TRLTrainer

from cai_assets.settings import Reinforcement
from cai_assets.train.rl_task import RLTask
from cai_assets.train.rollouts import Rollouts, functions_of


def make_config(settings: Reinforcement, common: dict[str, Any]) -> RLOOConfig:
    """``common``: arguments of every online trainer (``rl_config.online_arguments``)."""
    return RLOOConfig(**common, num_generations=settings.group)


class RLOOTrainer(Rollouts, TRLTrainer):  # type: ignore[misc]
    """``train_dataset`` has ``prompt``: lists of token ids."""

    def __init__(self, *, task: RLTask, **kwargs: Any) -> None:
        self.task = task
        super().__init__(reward_funcs=functions_of(task.reward), **kwargs)
        self._begin()
