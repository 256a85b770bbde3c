"""Direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290) on the labeled pairs themselves.

AI labels are probabilities, so the loss is the conservative one (Mitchell 2023, "A note on DPO with noisy
preferences"): the cross-entropy against each pair's own ``p_chosen``, which at 1 is DPO. It runs ``epochs`` over them;
``steps``, ``rollouts`` and the sampling settings do not apply. From TRL's DPOTrainer: the reference model (or the
policy with its adapters off) and batching. Tokenization is ours, as everywhere.

Imports torch and trl at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from cai_assets.settings import Reinforcement
from cai_assets.train.held_out import HeldOut
from cai_assets.train.rl_task import RLTask
from cai_assets.train.supervised_term import SupervisedTerm


def make_config(settings: Reinforcement, common: dict[str, Any]) -> DPOConfig:
    """``common``: arguments of every trainer. The rows already fit: TRL must not truncate them."""
    return DPOConfig(**common, beta=settings.beta, max_length=None, disable_dropout=True, remove_unused_columns=False)


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]
    """DPOTrainer on token ids, with a probability for each pair."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False) -> Tensor:
        p = inputs.pop("p_chosen")
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        ids = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        chosen, rejected = model(**ids, labels=labels, fused_lm_head=True, use_cache=False).log_probs.sum(1).chunk(2)
        reference = self.model if self.ref_model is None else self.ref_model
        with torch.no_grad():
            chosen_before, rejected_before = self.compute_ref_log_probs(reference, inputs)
        rewards = self.beta * (chosen - chosen_before), self.beta * (rejected - rejected_before)
        self._log_rewards(*(r.detach() for r in rewards))
        return preference_loss(rewards[0] - rewards[1], p).mean()

    def _log_rewards(self, chosen: Tensor, rejected: Tensor) -> None:
        self._record("chosen_reward", chosen)
        self._record("rejected_reward", rejected)
        self._record("margin", chosen - rejected)
        self._record("accuracy", (chosen > rejected).float())


class CAITrainer(HeldOut, SupervisedTerm, PreferenceTrainer):
    """``train_dataset`` has the columns of ``pair_rows``."""

    def __init__(self, *, task: RLTask, **kwargs: Any) -> None:
        self.task = task
        super().__init__(data_collator=Collator(pad_token_id=task.pad), **kwargs)


class Collator(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's batch (the chosen responses above the rejected) with ``p_chosen`` (pairs,)."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        return {**batch, "p_chosen": torch.tensor([row["p_chosen"] for row in examples], dtype=torch.float32)}


def preference_loss(margin: Tensor, p: Tensor) -> Tensor:
    """Cross-entropy (pairs,) of ``p`` against the probability that the implicit rewards give the chosen response."""
    losses: Tensor = torch.nn.functional.binary_cross_entropy_with_logits(margin, p.to(margin.dtype), reduction="none")
    return losses
