"""What a response is worth while the policy is optimized: one row per reward (``rl.reward``).

Your own package can add one through the entry point group ``cai_assets.rewards``; its name and version are then part
of what determines a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cai_assets.registry.base import Registry

Column = Literal["messages", "request", "principles"]


@dataclass(frozen=True, kw_only=True)
class RewardSource:
    """One source of rewards. ``make(job, settings, tokenizer)`` gives an ``rl_task.Reward``, called with token ids.

    ``label``: model cards say "rewarded by" it. ``runs``: the model that the job then names a folder of, if any.
    'engine': not a folder but the labeler as any engine, served ones too. ``columns``: of the rows, what the reward is
    called with besides token ids: the conversation ``messages``, the ``request`` of the principle that the prompt drew,
    and the ids of the ``principles`` whose questions are asked.
    """

    make: str
    label: str
    runs: Literal["reward_model", "labeller", "engine"] | None = None
    columns: tuple[Column, ...] = ()


REWARDS = Registry("reward", RewardSource, group="cai_assets.rewards", own={
    "model": RewardSource(make="cai_assets.train.feedback:from_reward_model", runs="reward_model",
                          label="a reward model that learned from AI preference labels"),
    "labeller": RewardSource(make="cai_assets.train.feedback:from_labeller", runs="labeller",
                             columns=("messages", "request"), label="the labeler itself"),
    "rubric": RewardSource(make="cai_assets.train.parted:from_rubric", runs="engine",
                           columns=("messages", "principles"),
                           label="the labeler's yes or no to the question of each principle"),
})
