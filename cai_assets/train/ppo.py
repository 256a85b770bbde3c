"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) on top of TRL's GRPOTrainer.

From GRPOTrainer: sampling, log-probabilities, the reference model, the clipped surrogate. Added here: a value model
with its own optimiser group, clipping and checkpoints; the KL penalty in the reward of each token (Bai et al. 2022,
section 4.1), not in the loss; generalised advantage estimation. GRPO's groups are not used: one response a prompt.
Works on one device or with data parallelism; sharded training would need the value model sharded too.

Imports torch and trl at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOConfig, GRPOTrainer

from cai_assets.train.gae import clipped_value_loss, gae, token_rewards, whiten

VALUE_FILE = "value_model.safetensors"
Batch = dict[str, Any]


@dataclass
class PPOConfig(GRPOConfig):  # type: ignore[misc]
    """GRPOConfig with what PPO adds. ``beta`` only makes GRPOTrainer load the reference model."""

    beta: float = 1.0
    kl_coefficient: float = 0.05
    missing_eos_penalty: float = 1.0
    gamma: float = 1.0
    gae_lambda: float = 0.95
    value_clip: float = 0.2
    value_coefficient: float = 0.1


class ValueModel(nn.Module):  # type: ignore[misc]
    """The value of the state after each token, from a model with a scalar head, which starts at zero."""

    def __init__(self, scalar_model: Any) -> None:
        super().__init__()
        self.trunk, self.head = scalar_model.base_model, scalar_model.score
        nn.init.zeros_(self.head.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, tokens) ids and mask to (batch, tokens) values."""
        hidden = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        values: Tensor = self.head(hidden).squeeze(-1).float()
        return values


class PPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """``train_dataset`` has one column, ``prompt``: lists of token ids. ``reward`` is a TRL reward function."""

    def __init__(self, *, model: Any, value_model: ValueModel, reward: Any, args: PPOConfig, **kwargs: Any) -> None:
        super().__init__(model=model, reward_funcs=reward, args=args, **kwargs)
        self.num_generations = 1
        self.beta = 0.0  # GRPO's own KL term; ours is in the reward
        self.value_model = self.accelerator.prepare_model(value_model)
        self.add_callback(_ClearGradients(self.value_model))

    # Sampling and reward

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _calculate_rewards(self, inputs: Any, prompts: list[Any], completions: Any, completion_ids_list: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        first = self.accelerator.process_index * len(prompts)
        self._scores = rewards[first : first + len(prompts), 0]
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        batch: Batch = super()._generate_and_score_completions(inputs)
        mask = batch["completion_mask"].float()
        with torch.no_grad():
            old = batch.get("old_per_token_logps")
            old = self._logps(self.model, batch) if old is None else old
            kl = (old - self._logps(self.ref_model, batch)) * mask
            values = self._values(batch) * mask
        ended = self._ended(batch)
        rewards = token_rewards(
            self._scores - self.args.missing_eos_penalty * (~ended), kl, mask, self.args.kl_coefficient
        )
        advantages, returns = gae(rewards, values, mask, self.args.gamma, self.args.gae_lambda)
        self._record_rollout(rewards, kl, mask, ended)
        ours = {"advantages": whiten(advantages, mask), "returns": returns, "old_values": values}
        return batch | ours | {"old_per_token_logps": old}

    def _ended(self, batch: Batch) -> Tensor:
        last = (batch["completion_mask"].sum(dim=1, keepdim=True) - 1).clamp(min=0)
        stops = torch.tensor(self.eos_token_ids, device=last.device)
        return torch.isin(batch["completion_ids"].gather(1, last).squeeze(1), stops)

    def _logps(self, model: Any, batch: Batch) -> Tensor:
        ids, mask, length = _whole(batch)
        size = self.args.per_device_train_batch_size
        logps: Tensor = self._get_per_token_logps_and_entropies(model, ids, mask, length, batch_size=size)[0]
        return logps

    def _values(self, batch: Batch) -> Tensor:
        """The value of the state before each response token: of the prompt, then of the prompt and one token..."""
        ids, mask, length = _whole(batch)
        size = self.args.per_device_train_batch_size
        chunks = [self.value_model(i, m) for i, m in zip(ids.split(size), mask.split(size), strict=True)]
        return torch.cat(chunks)[:, -length - 1 : -1]

    def _record_rollout(self, rewards: Tensor, kl: Tensor, mask: Tensor, ended: Tensor) -> None:
        per_response = {
            "reward": rewards.sum(dim=1), "score": self._scores, "kl": kl.sum(dim=1),
            "response_length": mask.sum(dim=1), "eos_rate": ended.float(),
        }  # fmt: skip
        for name, values in per_response.items():
            self._record(name, values)
        self._metrics["train"]["ppo/tokens"].append(self.accelerator.gather(mask.sum()).sum().item())

    def _record(self, name: str, values: Tensor) -> None:
        self._metrics["train"][f"ppo/{name}"].append(self.accelerator.gather(values.float()).mean().item())

    # Loss and optimiser

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        policy_loss: Tensor = super()._compute_loss(model, inputs)
        mask = inputs["completion_mask"].float()
        value_loss = clipped_value_loss(
            self._values(inputs), inputs["old_values"], inputs["returns"], mask, self.args.value_clip
        )
        parts = self.current_gradient_accumulation_steps
        self._record("policy_loss", policy_loss.detach() * parts)
        self._record("value_loss", value_loss.detach())
        return policy_loss + self.args.value_coefficient * value_loss / parts

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new:
            optimizer.add_param_group({"params": list(self.value_model.parameters()), "weight_decay": 0.0})
        return optimizer

    def _clip_grad_norm(self, model: Any) -> Any:
        self.accelerator.clip_grad_norm_(self.value_model.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            value_model = self.accelerator.unwrap_model(self.value_model)
            safetensors.torch.save_model(value_model, str(folder / VALUE_FILE))
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        value_model = self.accelerator.unwrap_model(self.value_model)
        safetensors.torch.load_model(value_model, Path(resume_from_checkpoint) / VALUE_FILE)


class _ClearGradients(TrainerCallback):  # type: ignore[misc]
    """Trainer clears the gradients of the policy only, after each update."""

    def __init__(self, value_model: Any) -> None:
        self.value_model = value_model

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.value_model.zero_grad()


def _whole(batch: Batch) -> tuple[Tensor, Tensor, int]:
    """Ids and mask of prompt and response together, and the response's width."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return ids, mask, batch["completion_ids"].shape[1]
