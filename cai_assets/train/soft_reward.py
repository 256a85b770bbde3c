"""The loss of the reward model and the TRL trainer that uses it, on labels that are probabilities.

Imports torch and TRL at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, logsigmoid
from trl import RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from cai_assets.settings import Reward


def preference_loss(chosen: Tensor, rejected: Tensor, p: Tensor, settings: Reward) -> Tensor:
    """The loss of each pair, float32 of shape (pairs,); all arguments have that shape.

    With reward difference d = chosen - rejected and label p, the probability that chosen is better:
    ``-(p log sigmoid(d) + (1 - p) log sigmoid(-d))``, the cross-entropy against the label (Bai et al. 2022, section
    4.1), smallest where d = logit(p). At p = 1 it is the Bradley-Terry loss (Ouyang et al. 2022, equation 1).
    ``targets='hard'`` replaces p with the label's side: 1 above one half, 0 below.
    ``margin``: d is reduced by margin x (2p - 1), so that a confident pair must lead by more (Touvron et al. 2023,
    section 3.2.2, with the label's probability for their rating). ``centering`` adds centering x (chosen + rejected)^2
    (Eisenstein et al. 2023).
    """
    chosen, rejected, p = chosen.float(), rejected.float(), p.float()
    target = p if settings.targets == "soft" else (1 + (2 * p - 1).sign()) / 2
    lead = chosen - rejected - settings.margin * (2 * p - 1)
    loss = -(target * logsigmoid(lead) + (1 - target) * logsigmoid(-lead))
    return loss + settings.centering * (chosen + rejected) ** 2


class Float32Head(torch.nn.Linear):  # type: ignore[misc]
    """The scalar head, kept out of autocast: bfloat16 is too coarse to tell rewards apart."""

    @classmethod
    def around(cls, head: torch.nn.Linear) -> Float32Head:
        """The same parameters in a head that computes in float32."""
        new = cls(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
        new.weight, new.bias = head.weight, head.bias
        return new

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast(input.device.type, enabled=False):
            return linear(input.float(), self.weight.float(), bias)


@dataclass
class Collator(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's batch of chosen over rejected sequences, with ``p_chosen`` (pairs,)."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        batch["p_chosen"] = torch.tensor([e["p_chosen"] for e in examples], dtype=torch.float32)
        return batch


class SoftRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """TRL's RewardTrainer with ``preference_loss``. ``reward``: the stage's settings."""

    def __init__(self, *, reward: Reward, **trainer: Any) -> None:
        self.reward = reward
        super().__init__(**trainer)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["chosen_ids", "rejected_ids", "p_chosen"]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        p = inputs.pop("p_chosen")
        outputs = model(**inputs, use_cache=False)
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        self._measure(chosen.detach(), rejected.detach())
        loss = preference_loss(chosen, rejected, p, self.reward).mean()
        return (loss, outputs) if return_outputs else loss

    def _measure(self, chosen: Tensor, rejected: Tensor) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        rewards = torch.cat([chosen, rejected]).mean()
        for name, value in (("accuracy", (chosen > rejected).float().mean()), ("margin", (chosen - rejected).mean()),
                            ("mean_reward", rewards)):
            metrics[name].append(self.accelerator.gather_for_metrics(value).mean().item())
