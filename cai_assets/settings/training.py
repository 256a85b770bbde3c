"""Settings of the training stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.settings.address import ServerAddress
from cai_assets.settings.base import OWN_HAND, Group, Source
from cai_assets.settings.columns import check
from cai_assets.settings.models import Model


class Lora(Group):
    """Low-rank adapters (Hu et al. 2021) instead of all weights; merged into the base when the checkpoint is saved."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapters."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale of the adapters."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout within the adapters."""


class Training(Group):
    """Settings shared by every training stage."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Highest learning rate."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the rows."""
    batch_size: int = Field(default=8, ge=1)
    """Rows in each step on each device."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Steps whose gradients make one update."""
    max_length: int = Field(default=512, ge=16)
    """Most tokens of a row. Longer ones lose whole turns, or are left out."""
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    """Share of the updates in which the learning rate rises."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on after that."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    save_every: int = Field(default=50, ge=1)
    """Updates between two saved states, from which a stopped training goes on."""
    lora: Lora | None = None
    """Train low-rank adapters instead of all weights. Not set: all weights."""
    processes: int = Field(default=1, ge=1)
    """Training processes, one for each GPU, started with accelerate."""
    memory: Literal["set", "auto"] = "set"
    """How a training is made to fit (docs/memory.md): 'set' (by the settings below), or 'auto' (where it would not, in
    the first way in which it does)."""
    checkpointing: bool | None = None
    """Compute activations again for the backward pass instead of keeping them. Not set: on a GPU."""
    sharding: Literal["none", "fsdp", "zero3"] = "none"
    """What each of several processes holds: the whole training, or a part of it, by FSDP2 of PyTorch ('fsdp') or ZeRO-3
    of DeepSpeed ('zero3')."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """Adam with its moments in float32, or in 8 bits (Dettmers et al. 2022; a GPU with bitsandbytes)."""
    quantized: bool = False
    """With lora: the base in 4 bits (QLoRA, Dettmers et al. 2023; a GPU with bitsandbytes)."""
    liger: bool = False
    """The fused kernels of liger-kernel (a GPU)."""

    @property
    def here(self) -> bool:
        """Whether this package trains, not another program."""
        return True

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.quantized and self.lora is None:
            raise ValueError("quantized=true trains adapters on a base in 4 bits: set lora too, as lora: {rank: 16}")
        if self.sharding != "none" and self.processes < 2:
            raise ValueError(f"sharding={self.sharding!r} divides a training among processes: set processes above 1")
        return self


class Nodes(Group):
    """Trainings with several processes, divided among machines that see the same files (docs/scale.md)."""

    nodes: int = Field(default=1, ge=1)
    """Machines among which the processes of each training are divided: Ray places them where engine.replicas runs
    models, else each further machine joins with 'cai join'. It enters no key."""
    address: Annotated[str | None, OWN_HAND] = None
    """Name or address under which the other machines reach the one of the run. Not set: that of its interface."""
    port: Annotated[int, OWN_HAND] = Field(default=29400, ge=1, le=65535)
    """Port at which they reach it."""
    wait: float = Field(default=600.0, gt=0)
    """Seconds that a training waits for all of them to come."""
    patience: float = Field(default=30.0, gt=0)
    """Seconds without a sign of one of them after which it is lost, and the training ends."""


class Packed(Training):
    """Settings of trainings on texts."""

    packing: Literal["none", "padding_free", "packed"] = "none"
    """Several rows in each sequence of max_length ('packed'), or the rows of each step one after the other without
    padding ('padding_free'). Rows never see each other."""


class Tuning(Packed):
    """Settings of supervised training."""

    source: Literal["revisions", "in_context"] = "revisions"
    """Whose answers to red-team prompts the SL policy learns: revisions that answer critiques, or answers with a drawn
    principle in view, learned without it ('in_context': context distillation, Askell et al. 2021)."""


class Midtraining(Packed):
    """Settings of the training on documents."""

    packing: Literal["none", "padding_free", "packed"] = "packed"
    """As sl.packing: several texts in each sequence of max_length ('packed')."""


class Reward(Training):
    """Reward model: a scalar head on the starting policy."""

    input: Literal["response", "principle"] = "response"
    """'principle': it reads a principle before the conversation and learns from each principle's votes, and the reward
    in RL is the weighted sum over principles (docs/recipe.md)."""
    controls: Literal["none", "blind", "all"] = "blind"
    """With input=principle, what is trained beside it to be measured alone: a model that sees no principle ('blind'),
    and one without the votes of each principle in turn ('all')."""
    model: Model | None = None
    """A reward model, such as a released one, that is taken as it is, and measured, instead of training one."""

    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the pairs that is kept for measuring."""
    targets: Literal["soft", "hard"] = "soft"
    """The label's probability ('soft', Bai et al. 2022, section 4.1) or its side ('hard')."""
    human: Source | None = None
    """A file of human comparisons that are mixed in."""
    centering: float = Field(default=0.0, ge=0)
    """Coefficient of the penalty on the squared sum of a pair's rewards (Eisenstein et al. 2023)."""
    margin: float = Field(default=0.0, ge=0)
    """The confidence of a label, times this, by which the chosen response must lead (Touvron et al. 2023, section
    3.2.2)."""

    @property
    def trains_blind(self) -> bool:
        """Whether, with ``input: principle``, a model that sees no principle is trained beside it."""
        return self.model is None and self.controls != "none"

    def leaves_out(self, principles: int) -> bool:
        """Whether, of so many principles, a model is trained beside it without the votes of each."""
        return self.model is None and self.controls == "all" and principles > 1

    @field_validator("model", mode="before")
    @classmethod
    def _a_source_is_enough(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _learns_from_votes(self) -> Self:
        if self.input == "principle" and self.human:
            raise ValueError("input='principle' learns from the votes of principles, and people's comparisons "
                             "(reward.human) name none: leave one of both out")
        if self.model and self.model.base_urls:
            raise ValueError("model: the training process loads the reward model, so it cannot be served elsewhere: "
                             "name a folder or a Hub ID")
        return self

    @field_validator("human")
    @classmethod
    def _are_read(cls, human: Source | None) -> Source | None:
        if human:
            check(human.columns, "comparisons", "reward.human.columns")
        return human


class RolloutVllm(Group):
    """vLLM that samples in reinforcement learning."""

    server: ServerAddress | None = None
    """Address of one on GPUs of its own (vllm serve with weight transfer, as TRL's documentation starts it). Not set:
    it shares the GPUs of the training."""
    gpu_memory_utilization: float = Field(default=0.3, gt=0, le=1)
    """Share of each GPU's memory that it takes."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """Processes over which it is spread."""
    sleep: bool = True
    """Whether it gives the memory back while the policy is updated."""


class External(Group):
    """A program of another environment that optimizes the policy (docs/external.md)."""

    command: tuple[str, ...] = ()
    """With algorithm=external: the program and its arguments, to which the path of job.json is added. It enters the
    checkpoint's key."""
    version: str = ""
    """What is to be another checkpoint when it changes, such as 'verl 0.9, our grpo.py 3'. It enters the checkpoint's
    key."""


class Reinforcement(Training):
    """The reinforcement stage: PPO (Schulman et al. 2017), GRPO, RLOO or DPO, with a KL penalty to the SL policy."""

    algorithm: Annotated[str, AfterValidator(ALGORITHMS.check)] = "ppo"
    """ppo, grpo, rloo, dpo, or external: the program of rl.external.command."""
    external: Annotated[External, OWN_HAND] = External()
    """The program that external runs."""
    reward: Annotated[str, AfterValidator(REWARDS.check)] = "model"
    """'model': the reward model. 'labeller': the labeler's own grade of a response (direct-RLAIF, Lee et al. 2023).
    'rubric': its answers to one yes/no question for each principle."""
    principles: int | None = Field(default=None, ge=1)
    """With 'rubric': so many principles are drawn for a prompt. Not set: all."""
    checks: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the principles' checks together beside the reward, whose weight is 1. Each part is divided by its
    standard deviation first."""
    steps: int = Field(default=4, ge=1)
    """Updates of the policy from fresh responses."""
    rollouts: int = Field(default=8, ge=1)
    """Responses sampled for each step."""
    group: int = Field(default=4, ge=2)
    """Responses to each prompt (GRPO, RLOO)."""
    ppo_epochs: int = Field(default=2, ge=1)
    """Passes over the responses of a step."""
    max_tokens: int = Field(default=48, ge=1)
    """Most tokens of a response."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of the responses."""
    beta: float = Field(default=0.05, ge=0)
    """Weight of the KL penalty to the SL policy."""
    kl_in: Literal["reward", "loss"] = "reward"
    """The KL penalty as part of each token's reward, or of the loss."""
    kl_target: float | None = Field(default=None, gt=0)
    """With it, beta adapts until the KL is there (Ziegler et al. 2019, section 2.2)."""
    kl_budget: float = Field(default=10.0, gt=0)
    """KL to the SL policy above which a check warns."""
    clip: float = Field(default=0.2, gt=0)
    """How far a step may move the probability of a token."""
    value_clip: float = Field(default=0.2, gt=0)
    """How far a step may move a value estimate."""
    value_coefficient: float = Field(default=0.1, ge=0)
    """Weight of the value loss."""
    value_model: Literal["own", "shared"] = "own"
    """PPO's value model: a model of its own, or a head on the policy's trunk ('shared'), which takes half of the
    memory."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of later rewards."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Lambda of the generalized advantage estimate."""
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    """Taken from the reward of a response that does not end."""
    length_penalty: float = Field(default=0.0, ge=0)
    """Taken from the reward for each token."""
    alpha: float | None = Field(default=None, gt=0)
    """With it, the loss is L_SL + alpha x L_RL, L_SL over the SL data."""
    best: Literal["last", "reward"] = "last"
    """Which saved state is published: the last, or that with the highest reward on the held-out prompts."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts that is kept for choosing the best state."""
    sampler: Literal["auto", "vllm", "transformers"] = "auto"
    """Who samples the responses: vLLM, transformers, or 'auto', which is vLLM where it is installed and there is a
    GPU. It enters no key."""
    vllm: RolloutVllm = RolloutVllm()
    """How vLLM samples the responses. It enters no key."""

    @property
    def here(self) -> bool:
        return ALGORITHMS[self.algorithm].ours

    @model_validator(mode="after")
    def _of_its_own(self) -> Self:
        if self.here:
            return self
        if not self.external.command or not self.external.version:
            raise ValueError("algorithm='external' runs a program of yours: set external.command and external.version, "
                             "such as external: {command: [/opt/verl/bin/python, grpo.py], version: verl 0.9}")
        if self.reward not in ("model", "labeller"):
            raise ValueError(f"reward={self.reward!r} is computed here, where algorithm='external' does not train: set "
                             "'model' or 'labeller', whose folder its program gets")
        if self.checks:
            raise ValueError(f"checks={self.checks:g} are computed here, where algorithm='external' does not train: "
                             "set checks=0")
        return self

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
