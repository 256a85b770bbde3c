"""What PPO, GRPO and RLOO share: prompts as token ids, the shaped reward, the KL penalty's coefficient, the curves.

The reward is the score of the reward model (or the labeler), less the penalties for a missing end and for length
(``rl_task.shaped``). The objective is that reward less ``beta`` times the KL divergence from the reference. With
``kl_target``, beta follows the proportional controller of Ziegler et al. 2019 (arXiv 1909.08593, section 2.2).
A reward of several parts (``parted.py``) is added up in units of their standard deviations over all rollouts so far.
KL is the sum over a response of log(policy / reference), in nats, when it was sampled.

Imports torch at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cai_assets.evals.weighing import Scale
from cai_assets.train.held_out import HeldOut, repetition
from cai_assets.train.parted import Parted
from cai_assets.train.rl_task import OURS, Reward, shaped
from cai_assets.train.supervised_term import SupervisedTerm

STATE_FILE = "rollouts.json"
GAIN, LARGEST_ERROR = 0.1, 0.2  # K_beta and the clip of Ziegler et al.
Batch = dict[str, Any]


def adapted(beta: float, kl: float, target: float) -> float:
    """The next coefficient: a tenth of the relative error, itself kept within a fifth, up or down."""
    error = max(-LARGEST_ERROR, min(LARGEST_ERROR, kl / target - 1))
    return beta * (1 + GAIN * error)


class Spread(NamedTuple):
    """Count, mean and sum of squared deviations of all rewards so far (Chan et al. 1983)."""

    n: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def plus(self, values: Tensor) -> Spread:
        n, mean = float(values.numel()), values.mean().item()
        total, apart = self.n + n, mean - self.mean
        squares = self.squares + ((values - mean) ** 2).sum().item() + apart**2 * self.n * n / total
        return Spread(total, self.mean + apart * n / total, squares)

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 of nothing."""
        return math.sqrt(self.squares / self.n) if self.n else 0.0

    def furthest(self, values: Tensor) -> float:
        """The largest distance from the mean, in standard deviations; 0 while all rewards are equal."""
        deviation = self.deviation
        return (values - self.mean).abs().max().item() / deviation if deviation > 0 else 0.0


class Rollouts(HeldOut, SupervisedTerm):
    """Mixin in front of TRL's online trainers. ``train_dataset`` has ``prompt``: lists of token ids."""

    beta: float
    eos_token_ids: Any
    coefficient: float
    _scores: Tensor
    _shaped: Tensor
    _spread = Spread()
    _parts: tuple[Spread, ...] = ()

    def _begin(self) -> None:
        """After TRL's set-up: the first coefficient, and the weights of the rewards of its list."""
        self._use(self.task.settings.beta)
        if isinstance(parted := self.task.reward, Parted):
            self.reward_weights = torch.tensor([*(share.weight for share in parted.shares), 1.0], dtype=torch.float32)
            self._parts = (Spread(),) * len(parted.names)

    def _use(self, coefficient: float) -> None:
        """Take a new coefficient; TRL reads it as ``beta``."""
        self.coefficient = self.beta = coefficient

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_single_turn(self, *arguments: Any, **more: Any) -> Any:
        """In one autocast around all tokens: the weights are cast once, and not again for each token."""
        with nullcontext() if self.use_vllm else self.accelerator.autocast():  # type: ignore[attr-defined]
            return super()._generate_single_turn(*arguments, **more)  # type: ignore[misc]

    def _calculate_rewards(self, inputs: Any, prompts: list[Any], completions: Any, completion_ids_list: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(  # type: ignore[misc]
            inputs, prompts, completions, completion_ids_list)
        device = rewards.device
        length = torch.tensor([float(len(ids)) for ids in completion_ids_list], device=device)
        ended = torch.tensor([float(ids[-1] in self.eos_token_ids) for ids in completion_ids_list], device=device)
        repeated = torch.tensor([repetition(ids) for ids in completion_ids_list], device=device)
        gathered = [self.accelerator.gather(x) for x in (length, ended)]
        scores, units = self._added_up(rewards)
        whole = shaped(self.task.settings, scores, *gathered)
        first = self.accelerator.process_index * len(prompts)
        mine = slice(first, first + len(prompts))
        self._scores, self._shaped = scores[mine], whole[mine]
        for name, values in (("score", self._scores), ("response_length", length), ("eos_rate", ended),
                             ("repetition", repeated)):
            self._record(name, values)
        self._metrics["train"][f"{OURS}tokens"].append(gathered[0].sum().item())
        if units is None:
            return whole.unsqueeze(1)
        listed = (units.nan_to_num() * self.reward_weights[:-1].to(device)).sum(dim=1)
        return torch.cat([units, (whole - listed).unsqueeze(1)], dim=1)

    def _added_up(self, rewards: Tensor) -> tuple[Tensor, Tensor | None]:
        """The score (responses,) of TRL's list (responses, rewards), and of several parts each in its unit."""
        parted = self.task.reward
        if not isinstance(parted, Parted):
            return rewards[:, 0], None
        values = rewards[:, :-1]
        there = [column[~column.isnan()] for column in values.unbind(dim=1)]
        self._parts = tuple(s.plus(x) if x.numel() else s for s, x in zip(self._parts, there, strict=True))
        for name, column in zip(parted.names, there, strict=True):
            if column.numel():
                self._metrics["train"][f"{OURS}part/{name}"].append(column.mean().item())
        self._metrics["train"][f"{OURS}ungraded"].append(parted.unread)
        scale = Scale(*(np.array([getattr(s, name) for s in self._parts]) for name in Scale._fields))
        units, whole = parted.reward(values.double().cpu().numpy(), scale)
        return tuple(torch.as_tensor(x, dtype=rewards.dtype, device=rewards.device)
                     for x in (whole, units))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """TRL's batch with ``old_per_token_logps`` and ``log_ratios`` to the reference, (responses, tokens)."""
        batch: Batch = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        mask = batch["completion_mask"].float()
        with torch.no_grad():
            old, reference = batch.get("old_per_token_logps"), batch.get("ref_per_token_logps")
            old = self._logps(self.model, batch) if old is None else old
            if reference is None:
                with self._reference() as model:
                    reference = self._logps(model, batch)
        ratios = (old - reference) * mask
        kl = self._record_objective(ratios.sum(dim=1))
        target = self.task.settings.kl_target
        if target is not None:
            self._use(adapted(self.coefficient, kl, target))
        return batch | {"old_per_token_logps": old, "log_ratios": ratios}

    def _logps(self, model: Any, batch: Batch) -> Tensor:
        ids, mask, length = whole(batch)
        size = self.args.per_device_train_batch_size
        logps: Tensor = self._get_per_token_logps_and_entropies(  # type: ignore[attr-defined]
            model, ids, mask, length, batch_size=size)[0]
        return logps

    def _record_objective(self, kl: Tensor) -> float:
        """Log KL, reward, outliers and beta of this batch; return the mean KL over all processes."""
        rewards = self.accelerator.gather(self._shaped - self.coefficient * kl)
        self._spread = self._spread.plus(rewards)
        self._record("kl", kl)
        self._record("reward", rewards)
        self._metrics["train"][f"{OURS}reward_outlier"].append(self._spread.furthest(rewards))
        self._metrics["train"][f"{OURS}beta"].append(self.coefficient)
        mean: float = self._metrics["train"][f"{OURS}kl"][-1]
        return mean

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            state = {"beta": self.coefficient, "spread": self._spread, "parts": self._parts}
            (folder / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
        super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        state = json.loads((Path(resume_from_checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
        self._use(state["beta"])
        self._spread = Spread(*state["spread"])
        self._parts = tuple(Spread(*spread) for spread in state.get("parts", self._parts))


def functions_of(reward: Reward | None) -> Any:
    """The reward, or the rewards, as TRL takes them."""
    return reward.functions() if isinstance(reward, Parted) else reward


def whole(batch: Batch) -> tuple[Tensor, Tensor, int]:
    """Ids and mask of prompt and response together, and the response's width."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return ids, mask, batch["completion_ids"].shape[1]
