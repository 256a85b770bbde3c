"""Group relative policy optimization (Shao et al. 2024, arXiv 2402.03300, section 4.1), as TRL's GRPOTrainer has it.

The advantage of a response is its reward less the mean of its group (``group`` responses to one prompt), divided by
the group's standard deviation. The KL penalty is a term of the loss, whatever ``kl_in`` says; there is no value model.

Imports trl at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from typing import Any

from trl import GRPOConfig
from trl import GRPOTrainer as TRLTrainer

from cai_assets.settings import Reinforcement
from cai_assets.train.rl_task import RLTask
from cai_assets.train.rollouts import Rollouts, functions_of


def make_config(settings: Reinforcement, common: dict[str, Any]) -> GRPOConfig:
    """``common``: arguments of every online trainer (``rl_config.online_arguments``)."""
    return GRPOConfig(**common, loss_type="grpo", num_generations=settings.group)


class GRPOTrainer(Rollouts, TRLTrainer):  # type: ignore[misc]
    """``train_dataset`` has ``prompt``: lists of token ids."""

    def __init__(self, *, task: RLTask, **kwargs: Any) -> None:
        self.task = task
        super().__init__(reward_funcs=functions_of(task.reward), **kwargs)
        self._begin()
