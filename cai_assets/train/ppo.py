"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) on top of TRL's GRPOTrainer.

From GRPOTrainer: sampling, log-probabilities, the reference model, the clipped surrogate and, with ``kl_in='loss'``,
the KL term of the loss. Added here: a value model with its own optimizer group, clipping and checkpoints; with
``kl_in='reward'`` the KL penalty in the reward of each token (Bai et al. 2022, section 4.1); generalized advantage
estimation. GRPO's groups are not used: one response per prompt. With LoRA the value model has its own adapters.
Works on one device or with data parallelism; sharded training would require a sharded value model too.

Imports torch and trl at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOConfig, GRPOTrainer

from cai_assets.settings import Lora, Reinforcement
from cai_assets.train.gae import clipped_value_loss, gae, token_rewards, whiten
from cai_assets.train.job import Job
from cai_assets.train.lora import lora_config
from cai_assets.train.rl_task import RLTask
from cai_assets.train.rollouts import Batch, Rollouts, functions_of, whole
from cai_assets.train.run import load_scalar

VALUE_FILE = "value_model.safetensors"


def make_config(settings: Reinforcement, common: dict[str, Any]) -> GRPOConfig:
    """``common``: arguments of every online trainer (``rl_config.online_arguments``)."""
    return GRPOConfig(
        **common,
        loss_type="bnpo",  # the mean over all tokens of the minibatch
        num_generations=settings.rollouts,  # GRPO asks for groups; PPOTrainer makes none
    )


class ValueModel(nn.Module):  # type: ignore[misc]
    """The value of the state after each token, from a model with a scalar head, which starts at zero."""

    def __init__(self, scalar_model: Any, lora: Lora | None = None) -> None:
        super().__init__()
        self.trunk, self.head = scalar_model.base_model, scalar_model.score
        if lora is not None:
            from peft import inject_adapter_in_model

            self.trunk = inject_adapter_in_model(lora_config(lora, "CAUSAL_LM"), self.trunk)
        nn.init.zeros_(self.head.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, tokens) ids and mask to (batch, tokens) values."""
        hidden = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        values: Tensor = self.head(hidden).squeeze(-1).float()
        return values

    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained: all, or the adapters and the head."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def value_model(job: Job, settings: Reinforcement, tokenizer: Any) -> dict[str, Any]:
    """What PPOTrainer takes besides what every trainer does."""
    return {"value_model": ValueModel(load_scalar(job.base, tokenizer.eos_token_id), settings.lora)}


class PPOTrainer(Rollouts, GRPOTrainer):  # type: ignore[misc]
    """``train_dataset`` has ``prompt``: lists of token ids."""

    def __init__(self, *, task: RLTask, value_model: ValueModel, **kwargs: Any) -> None:
        self.task = task
        super().__init__(reward_funcs=functions_of(task.reward), **kwargs)
        self.num_generations = 1
        self._begin()
        self.value_model = self.accelerator.prepare_model(value_model)
        self.add_callback(_ClearGradients(self.value_model))

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
        ids, mask, length = whole(batch)
        size = self.args.per_device_train_batch_size
        chunks = [self.value_model(i, m) for i, m in zip(ids.split(size), mask.split(size), strict=True)]
        return torch.cat(chunks)[:, -length - 1 : -1]

    def _compute_loss(self, model: Any, inputs: Batch, *rest: Any) -> Tensor:
        loss = super()._compute_loss(model, inputs, *rest)
        settings, mask = self.task.settings, inputs["completion_mask"].float()
        value_loss = clipped_value_loss(
            self._values(inputs), inputs["old_values"], inputs["returns"], mask, settings.value_clip
        )
        self._record("value_loss", value_loss.detach())
        return loss + settings.value_coefficient * value_loss / self.current_gradient_accumulation_steps

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new:
            trained = self.accelerator.unwrap_model(self.value_model).trained()
            optimizer.add_param_group({"params": list(trained.values()), "weight_decay": 0.0})
        return optimizer

    def _clip_grad_norm(self, model: Any) -> Any:
        self.accelerator.clip_grad_norm_(self.value_model.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            trained = self.accelerator.unwrap_model(self.value_model).trained()
            tensors = {name: p.detach().contiguous() for name, p in trained.items()}
            safetensors.torch.save_file(tensors, str(folder / VALUE_FILE))
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        trained = self.accelerator.unwrap_model(self.value_model).trained()
        saved = safetensors.torch.load_file(Path(resume_from_checkpoint) / VALUE_FILE)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(saved[name])


class _ClearGradients(TrainerCallback):  # type: ignore[misc]
    """Trainer clears the gradients of the policy only, after each update."""

    def __init__(self, value_model: Any) -> None:
        self.value_model = value_model

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.value_model.zero_grad()
