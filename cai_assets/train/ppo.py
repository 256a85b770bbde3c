"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) on top of TRL's GRPOTrainer.

From GRPOTrainer: sampling, log-probabilities, the reference model, the clipped surrogate and, with ``kl_in='loss'``,
the KL term of the loss. Added here: a value model with its own optimizer, clipping and checkpoints; with
``kl_in='reward'`` the KL penalty in the reward of each token (Bai et al. 2022, section 4.1); generalized advantage
estimation. GRPO's groups are not used: one response per prompt. With LoRA the value model has its own adapters; where
the policy is sharded, so is the value model. With ``value_model='shared'`` it is a head on the policy's trunk.

Imports torch and trl at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import Tensor
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOConfig, GRPOTrainer

from cai_assets.engines.model_shape import shape_of
from cai_assets.settings import Reinforcement
from cai_assets.train.gae import clipped_value_loss, gae, token_rewards, whiten
from cai_assets.train.job import Job
from cai_assets.train.rl_task import RLTask
from cai_assets.train.rollouts import Batch, Rollouts, functions_of, whole
from cai_assets.train.run import load_scalar
from cai_assets.train.value_model import ValueHead, ValueModel, ValueUpdates, last_hidden


def make_config(settings: Reinforcement, common: dict[str, Any]) -> GRPOConfig:
    """``common``: arguments of every online trainer (``rl_config.online_arguments``)."""
    return GRPOConfig(
        **common,
        loss_type="bnpo",  # the mean over all tokens of the minibatch
        num_generations=settings.rollouts,  # GRPO asks for groups; PPOTrainer makes none
    )


def value_model(job: Job, settings: Reinforcement, tokenizer: Any) -> dict[str, Any]:
    """What PPOTrainer takes besides what every trainer does."""
    shared = settings.value_model == "shared"
    return {"value_model": ValueHead(shape_of(job.base).hidden) if shared else
            ValueModel(load_scalar(job.base, tokenizer.eos_token_id), settings.lora)}


class PPOTrainer(Rollouts, GRPOTrainer):  # type: ignore[misc]
    """``train_dataset`` has ``prompt``: lists of token ids."""

    def __init__(self, *, task: RLTask, value_model: ValueModel | ValueHead, **kwargs: Any) -> None:
        self.task = task
        self._shared = isinstance(value_model, ValueHead)
        super().__init__(reward_funcs=functions_of(task.reward), **kwargs)
        self.num_generations = 1
        self._begin()
        self.value_model = self._prepared(value_model)
        self._updates = ValueUpdates(self)
        self.add_callback(self._updates)

    @property
    def state_files(self) -> tuple[str, ...]:
        """What a state must hold to resume from; earlier releases wrote other files."""
        return (self._updates.file(Path()).name,)

    def _prepared(self, value_model: ValueModel | ValueHead) -> Any:
        """On its device and divided as the policy will be; a head is whole everywhere."""
        if self._shared:
            return value_model.to(self.accelerator.device)
        return fsdp2_prepare_model(self.accelerator, value_model) if self.is_fsdp_enabled \
            else self.accelerator.prepare_model(value_model)

    def _use(self, coefficient: float) -> None:
        super()._use(coefficient)
        if self.task.settings.kl_in == "reward":
            self.beta = 0.0  # no KL term in GRPO's loss: ours is in the reward

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        settings, coefficient = self.task.settings, self.coefficient
        batch = super()._generate_and_score_completions(inputs)
        mask = batch["completion_mask"].float()
        with torch.no_grad():
            values = self._values(batch) * mask
        kl = batch.pop("log_ratios")
        rewards = token_rewards(self._shaped, kl, mask, coefficient if settings.kl_in == "reward" else 0.0)
        advantages, returns = gae(rewards, values, mask, settings.gamma, settings.gae_lambda)
        return batch | {"advantages": whiten(advantages, mask), "returns": returns, "old_values": values}

    def _values(self, batch: Batch) -> Tensor:
        """The value of the state before each response token: of the prompt, then of the prompt and one token..."""
        if self._shared:
            with last_hidden(self.accelerator.unwrap_model(self.model)) as seen:
                self._logps(self.model, batch)
            return self._values_of(torch.cat(seen), batch)
        ids, mask, length = whole(batch)
        size = self.args.per_device_train_batch_size
        chunks = [self.value_model(i, m) for i, m in zip(ids.split(size), mask.split(size), strict=True)]
        return torch.cat(chunks)[:, -length - 1 : -1]

    def _values_of(self, hidden: Tensor, batch: Batch) -> Tensor:
        """From the trunk's last hidden states of prompts and responses."""
        with self.accelerator.autocast():
            values: Tensor = self.value_model(hidden)
        return values[:, -batch["completion_ids"].shape[1] - 1 : -1]

    def _compute_loss(self, model: Any, inputs: Batch, *rest: Any) -> Tensor:
        settings, mask = self.task.settings, inputs["completion_mask"].float()
        with last_hidden(self.accelerator.unwrap_model(model), when=self._shared) as seen:
            loss = super()._compute_loss(model, inputs, *rest)
        # The first pass is the policy's, over the responses.
        values = self._values_of(seen[0], inputs) if self._shared else self._values(inputs)
        value_loss = clipped_value_loss(values, inputs["old_values"], inputs["returns"], mask, settings.value_clip)
        self._record("value_loss", value_loss.detach())
        return loss + settings.value_coefficient * value_loss / self.current_gradient_accumulation_steps

    def _clip_grad_norm(self, model: Any) -> Any:
        if self._shared:
            for parameter in self.value_model.parameters():
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        self.accelerator.clip_grad_norm_(self.value_model.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save or self.is_fsdp_enabled:
            self._updates.save(Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._updates.load(Path(resume_from_checkpoint))
