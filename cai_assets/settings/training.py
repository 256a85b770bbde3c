"""Settings of the training stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.settings.address import ServerAddress
from cai_assets.settings.base import Group, Source
from cai_assets.settings.columns import check


class Lora(Group):
    """Low-rank adapters (Hu et al. 2021) instead of all weights; merged into the base when the checkpoint is saved."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Training(Group):
    """Settings shared by every training stage. ``processes`` above 1 are started with accelerate, one for each GPU."""

    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=8, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    max_length: int = Field(default=512, ge=16)
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: float = Field(default=1.0, gt=0)
    save_every: int = Field(default=50, ge=1)
    lora: Lora | None = None
    processes: int = Field(default=1, ge=1)


class Reward(Training):
    """Reward model: a scalar head on the starting policy.

    ``targets``: the label's probability ('soft', Bai et al. 2022, section 4.1) or its side ('hard'). ``human``: a file
    of human comparisons mixed in. ``centering``: coefficient of the penalty on the squared sum of a pair's rewards
    (Eisenstein et al. 2023). ``margin``: the confidence of a label, times this, by which the chosen response must
    lead (Touvron et al. 2023, section 3.2.2).
    """

    held_out: float = Field(default=0.2, gt=0, lt=1)
    targets: Literal["soft", "hard"] = "soft"
    human: Source | None = None
    centering: float = Field(default=0.0, ge=0)
    margin: float = Field(default=0.0, ge=0)

    @field_validator("human")
    @classmethod
    def _are_read(cls, human: Source | None) -> Source | None:
        if human:
            check(human.columns, "comparisons", "reward.human.columns")
        return human


class RolloutVllm(Group):
    """vLLM that samples in reinforcement learning. ``server``: the address of one on GPUs of its own (``vllm serve``
    with weight transfer, as TRL's documentation starts it); None: it shares the GPUs of the training, of which it takes
    ``gpu_memory_utilization``, spread over ``tensor_parallel_size`` processes, and with ``sleep`` gives the memory back
    while the policy is updated."""

    server: ServerAddress | None = None
    gpu_memory_utilization: float = Field(default=0.3, gt=0, le=1)
    tensor_parallel_size: int = Field(default=1, ge=1)
    sleep: bool = True


class Reinforcement(Training):
    """The reinforcement stage: PPO (Schulman et al. 2017), GRPO, RLOO or DPO, with a KL penalty to the SL policy.

    ``reward``: the reward model, or the labeler's own grade of a response ('labeller', direct-RLAIF of Lee et al.
    2023), or its answers to one yes/no question for each principle ('rubric'). ``principles``: so many of these are
    drawn for a prompt; None: all. ``checks``: the weight of the principles' checks together beside that reward, whose
    weight is 1; each part is divided by its standard deviation first. ``kl_in``: the KL penalty as part of each token's
    reward, or of the loss. ``kl_target``: with it beta adapts until the KL is there (Ziegler et al. 2019, section 2.2).
    ``alpha``: with it the loss is L_SL + alpha x L_RL, L_SL over the SL data. ``group``: responses for each prompt
    (GRPO, RLOO). ``best``: publish the saved state with the highest reward on the ``held_out`` share of the prompts, or
    the last. ``sampler``: who samples the responses: vLLM, set up by ``vllm``, transformers, or 'auto': vLLM where it
    is installed and there is a GPU. Neither of the two is in a checkpoint's key.
    """

    algorithm: Annotated[str, AfterValidator(ALGORITHMS.check)] = "ppo"
    reward: Annotated[str, AfterValidator(REWARDS.check)] = "model"
    principles: int | None = Field(default=None, ge=1)
    checks: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    steps: int = Field(default=4, ge=1)
    rollouts: int = Field(default=8, ge=1)
    group: int = Field(default=4, ge=2)
    ppo_epochs: int = Field(default=2, ge=1)
    max_tokens: int = Field(default=48, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.05, ge=0)
    kl_in: Literal["reward", "loss"] = "reward"
    kl_target: float | None = Field(default=None, gt=0)
    kl_budget: float = Field(default=10.0, gt=0)
    clip: float = Field(default=0.2, gt=0)
    value_clip: float = Field(default=0.2, gt=0)
    value_coefficient: float = Field(default=0.1, ge=0)
    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    length_penalty: float = Field(default=0.0, ge=0)
    alpha: float | None = Field(default=None, gt=0)
    best: Literal["last", "reward"] = "last"
    held_out: float = Field(default=0.1, ge=0, lt=1)
    sampler: Literal["auto", "vllm", "transformers"] = "auto"
    vllm: RolloutVllm = RolloutVllm()

    @model_validator(mode="after")
    def _whole_updates(self) -> Reinforcement:
        update = self.batch_size * self.gradient_accumulation
        if self.rollouts % update:
            raise ValueError(f"rollouts={self.rollouts} must be a multiple of {update}, "
                             "which is batch_size times gradient_accumulation")
        if self.checks and not ALGORITHMS[self.algorithm].online:
            raise ValueError(f"checks={self.checks:g} reward sampled responses, and {self.algorithm} samples none: "
                             "choose another algorithm, or set checks=0")
        if self.principles is not None and self.reward != "rubric":
            raise ValueError(f"principles={self.principles} draws questions for reward='rubric', and the reward is "
                             f"{self.reward!r}")
        if ALGORITHMS[self.algorithm].grouped and self.rollouts % self.group:
            raise ValueError(f"rollouts={self.rollouts} must be a multiple of group={self.group}")
        return self
