"""How the policy is optimized: one row per algorithm (``rl.algorithm``). To add one: its file in ``train/``, and a row.

Settings, training rows, keys, plans, curves and model cards read these rows, and the tests train with each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cai_assets.registry.base import Registry

Reads = Literal["response_pairs", "preference_pairs"]

_NOT_OURS = {"external"}
_VALUE_MODEL = {"value_clip", "value_coefficient", "value_model", "gamma", "gae_lambda"}
_LEARNED = ("reward", "score", "held_out_reward", "kl", "beta", "policy_loss")
_SAMPLED = ("sl_loss", "response_length", "repetition", "entropy")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One way to optimize the policy.

    ``label``: its name in cards. ``reads``: the asset that it is trained on, the prompts of ``response_pairs``, to
    which the policy samples as it learns, or the labeled ``preference_pairs``. ``unread``: the settings of ``rl`` that
    it does not read, which are kept out of its checkpoints' keys. ``trainer``: a TRL trainer that takes ``task``
    (``train.rl_task``), with the mixins ``HeldOut`` and ``SupervisedTerm`` in front (``Rollouts`` has both);
    ``config(settings, common)``: its TRL configuration; without these two, another program trains
    (``train/external.py``). ``extra(job, settings, tokenizer)``: further arguments of the trainer. ``needs_beta``: with
    beta 0 there is nothing to learn. ``logs``: its own curves to show, besides the common ones.
    """

    label: str
    reads: Reads
    unread: frozenset[str]
    trainer: str = ""
    config: str = ""
    extra: str | None = None
    needs_beta: bool = False
    logs: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether it is trained by this package, not by another program."""
        return bool(self.trainer)

    @property
    def online(self) -> bool:
        """Whether the policy samples while it is trained."""
        return self.reads == "response_pairs"

    @property
    def grouped(self) -> bool:
        """Whether it samples ``rl.group`` responses to each prompt."""
        return "group" not in self.unread

    @property
    def curves(self) -> tuple[str, ...]:
        """The curves to show, in order; those that were not logged are left out."""
        return (*_LEARNED, *self.logs, *_SAMPLED)


ALGORITHMS = Registry("algorithm", Algorithm, own={
    "ppo": Algorithm(
        label="proximal policy optimization", reads="response_pairs",
        trainer="cai_assets.train.ppo:PPOTrainer", config="cai_assets.train.ppo:make_config",
        extra="cai_assets.train.ppo:value_model", unread=frozenset({"group", "epochs", *_NOT_OURS}),
        logs=("value_loss",)),
    "grpo": Algorithm(
        label="group relative policy optimization", reads="response_pairs",
        trainer="cai_assets.train.grpo:GRPOTrainer", config="cai_assets.train.grpo:make_config",
        unread=frozenset({"epochs", "kl_in", *_VALUE_MODEL, *_NOT_OURS})),
    "rloo": Algorithm(
        label="REINFORCE with a leave-one-out baseline", reads="response_pairs",
        trainer="cai_assets.train.rloo:RLOOTrainer", config="cai_assets.train.rloo:make_config",
        unread=frozenset({"epochs", "kl_in", *_VALUE_MODEL, *_NOT_OURS})),
    "dpo": Algorithm(
        label="direct preference optimization on the AI labels", reads="preference_pairs",
        trainer="cai_assets.train.dpo:CAITrainer", config="cai_assets.train.dpo:make_config",
        unread=frozenset({"steps", "rollouts", "group", "ppo_epochs", "clip", "kl_in", *_VALUE_MODEL, *_NOT_OURS}),
        needs_beta=True, logs=("margin",)),
    "external": Algorithm(label="an external program", reads="response_pairs", unread=frozenset()),
})
