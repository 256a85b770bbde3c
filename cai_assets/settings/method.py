"""Settings of the method: engines, prompts, the supervised half, AI feedback, evaluation."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cai_assets.assets import OWN_POLICIES
from cai_assets.settings.base import OWN_HAND, Group, InProject, Source
from cai_assets.settings.columns import Columns, check, columns_field
from cai_assets.settings.models import Model

BUNDLED_PROMPTS = Path(__file__).parent.parent / "data" / "prompts.jsonl"
POLICY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
ENOUGH, CONFIDENCE = 20, 0.95  # clusters needed to claim a difference, unless a setting says otherwise


class Engine(Group):
    """How models are run. Row keys hold of it ``dtype``, ``max_model_len``, and what of ``vllm`` changes numbers.

    ``dtype``: the number format of weights and products, in engines and training. 'auto': bfloat16 where the device
    multiplies it in hardware, float16 on older GPUs, else float32 (``engines/number_format.py``).
    ``concurrency``: the most calls in flight over all servers of a model; 'auto': as many as make each of them faster.
    ``vllm``: further arguments of vLLM's ``EngineArgs``, by their names there. What is not set, here or there, is left
    to vLLM, whose defaults follow the device. ``cpu_kv_cache_gib``: vLLM's cache on a CPU.
    ``patience``: seconds that rows wait when no server of a model answers any more, before the run ends.
    """

    max_model_len: int = Field(default=4096, ge=128)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    tensor_parallel_size: int = Field(default=1, ge=1)
    max_num_seqs: int | None = Field(default=None, ge=1)
    cpu_kv_cache_gib: int = Field(default=1, ge=1)
    vllm: Annotated[dict[str, Any], OWN_HAND] = Field(default_factory=dict)
    request_timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=5, ge=0)
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    patience: float = Field(default=600.0, ge=0)

    @property
    def gpus(self) -> int:
        """GPUs that a model in this process is spread over."""
        spread = ("pipeline_parallel_size", "data_parallel_size", "prefill_context_parallel_size")
        return self.tensor_parallel_size * math.prod(int(self.vllm.get(name) or 1) for name in spread)


class Prompts(Group):
    """Which prompts take part. ``paths`` empty: the bundled sample, which 'bundled' names in a list. ``columns``: what
    the columns of all ``paths`` are called (docs/data.md)."""

    paths: tuple[InProject, ...] = ()
    columns: Columns = columns_field()
    red_team: int = Field(default=24, ge=1)
    helpful: int = Field(default=8, ge=0)
    eval_red_team: int = Field(default=8, ge=1)
    eval_helpful: int = Field(default=8, ge=1)
    max_chars: int = Field(default=8000, ge=1)

    @field_validator("paths", mode="before")
    @classmethod
    def _bundled_by_name(cls, paths: Any) -> Any:
        named = isinstance(paths, list | tuple)
        return [BUNDLED_PROMPTS if str(p) == "bundled" else p for p in paths] if named else paths

    @field_validator("columns")
    @classmethod
    def _are_read(cls, columns: Columns) -> Columns:
        return check(columns, "prompts", "prompts.columns")


class Generation(Group):
    """Sampling of responses, critiques and revisions."""

    temperature: float = Field(default=0.7, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, ge=1)


class Critique(Group):
    """The critique and revision loop (Bai et al. 2022, section 3.1).

    ``mode='direct'`` revises without a critique (Bai et al. 2022, figure 7). ``stop_above``: a chain ends before a
    round when the critic's probability that nothing is left to criticize is above it. ``shuffle`` is a control: each
    revision answers the critique of another row.
    """

    rounds: int = Field(default=4, ge=1, le=16)
    style: Literal["plain", "chat"] = "chat"
    few_shots: bool = True
    mode: Literal["critique", "direct"] = "critique"
    stop_above: float | None = Field(default=None, gt=0, lt=1)
    shuffle: bool = False

    @model_validator(mode="after")
    def _shuffles_critiques(self) -> Critique:
        if self.shuffle and self.mode == "direct":
            raise ValueError("shuffle=true exchanges critiques, but mode='direct' has none")
        return self


class Supervised(Group):
    """What the SL policy is trained on. ``mix``: files of general conversations, each with its share of the rows.

    ``thoughts``, of a policy that keeps its thoughts (``thinking``): those before the responses are given, and no loss
    is on them ('mask'), or learned ('train').
    """

    thoughts: Literal["mask", "train"] = "mask"
    keep: Literal["all", "last"] = "all"
    helpful: bool = True
    mix: tuple[Source, ...] = ()

    @field_validator("mix")
    @classmethod
    def _leaves_room(cls, mix: tuple[Source, ...]) -> tuple[Source, ...]:
        if sum(s.share for s in mix) >= 1:
            raise ValueError("the shares of supervised.mix leave nothing for the revisions: keep their sum below 1")
        for source in mix:
            check(source.columns, "conversations", "supervised.mix.columns")
        return mix


class Pairs(Group):
    """Response pairs. ``source``: samples of the SL policy (Bai et al. 2022), of the generator ('generator': then an
    edited principle leaves the pairs alone), or the initial response against the last revision ('revision').

    ``candidates`` are sampled for each prompt, the i-th at ``temperatures[i % len(temperatures)]``; they are paired
    one after the other ('disjoint') or each with each ('all').
    """

    source: Literal["policy", "generator", "revision"] = "policy"
    temperatures: tuple[float, ...] = Field(default=(1.0,), min_length=1, max_length=16)
    top_p: float = Field(default=1.0, gt=0, le=1)
    candidates: int = Field(default=2, ge=2, le=16)
    combine: Literal["disjoint", "all"] = "disjoint"
    helpful: bool = True

    @model_validator(mode="after")
    def _pairs_up(self) -> Pairs:
        if any(not 0 < t <= 10 for t in self.temperatures):
            raise ValueError("pairs.temperatures must be above 0 and at most 10")
        if self.combine == "disjoint" and self.candidates % 2:
            raise ValueError(f"pairs.candidates={self.candidates} cannot be paired off: use an even number, or "
                             "combine='all'")
        return self


class Labels(Group):
    """AI preference labels (Bai et al. 2022, section 4.1).

    ``principles``: one drawn for each pair (the paper), all of them in one question, or one question for each whose
    answers are averaged ('vote'). ``chain_of_thought``: the labeler writes its reasons first, ``samples`` times, and
    the probabilities are averaged. ``clamp`` bounds the target that the reward model learns from: (0.4, 0.6) in the
    paper, for chain of thought.
    """

    few_shots: bool = True
    style: Literal["plain", "chat"] = "chat"
    principles: Literal["drawn", "all", "vote"] = "drawn"
    chain_of_thought: bool = False
    thought_tokens: int = Field(default=256, ge=1)
    thought_temperature: float = Field(default=1.0, ge=0, le=10)
    samples: int = Field(default=1, ge=1, le=64)
    clamp: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Labels:
        if self.samples > 1 and not self.chain_of_thought:
            raise ValueError("labels.samples above 1 needs chain_of_thought=true: without it every sample is the same "
                             "exact probability")
        if self.clamp and not 0 <= self.clamp[0] <= 0.5 <= self.clamp[1] <= 1:
            raise ValueError("labels.clamp must be (low, high) with 0 <= low <= 0.5 <= high <= 1")
        return self


class Gate(Group):
    """The judge gate: the labeler must agree with people before its labels train anything.

    ``path``: a file of human comparisons (docs/data.md), whose ``columns`` may be named; None: the bundled sample. The
    lower end of the accuracy's interval must be above ``accuracy`` and the share of pairs with the same answer in both
    orders at or above ``consistency``. With ``enforce`` off the check only warns.
    """

    path: InProject | None = None
    columns: Columns = columns_field()
    pairs: int = Field(default=200, ge=1)
    accuracy: float = Field(default=0.5, ge=0, lt=1)
    consistency: float = Field(default=0.5, ge=0, le=1)
    enforce: bool = True

    @field_validator("columns")
    @classmethod
    def _are_read(cls, columns: Columns) -> Columns:
        return check(columns, "comparisons", "gate.columns")


class Evaluation(Group):
    """Evaluation of finished policies on held-out prompts and suites.

    ``samples`` responses are sampled for each prompt and case. ``null``: the base model is sampled once more, as the
    row that shows what sampling alone does. ``others``: further policies by name, such as one trained by RLHF.
    ``enough``: with fewer prompts the verdict on a difference is "too few to tell".

    ``suites``: names of the suites to run (empty: all), from the package and from ``suites_folder``; of each at most
    ``suite_cases`` cases in each mode. ``round_chains``: the most chains to judge round by round.
    """

    max_tokens: int = Field(default=256, ge=1)
    confidence: float = Field(default=CONFIDENCE, gt=0, lt=1)
    samples: int = Field(default=1, ge=1, le=64)
    null: bool = True
    others: dict[str, Model] = Field(default_factory=dict)
    enough: int = Field(default=ENOUGH, ge=2)
    suites: tuple[str, ...] = ()
    suites_folder: InProject = Field(default=Path("suites"), validate_default=True)
    suite_cases: int = Field(default=200, ge=1)
    round_chains: int = Field(default=200, ge=1)

    @field_validator("others", mode="before")
    @classmethod
    def _a_source_is_enough(cls, value: Any) -> Any:
        return {k: {"source": v} if isinstance(v, str) else v for k, v in value.items()} if isinstance(value, dict) \
            else value

    @field_validator("others")
    @classmethod
    def _names_are_free(cls, others: dict[str, Model]) -> dict[str, Model]:
        for name in others:
            if not POLICY_NAME.fullmatch(name) or name in OWN_POLICIES:
                raise ValueError(f"evaluation.others: {name!r} must match {POLICY_NAME.pattern} and must not be one of "
                                 + ", ".join(sorted(OWN_POLICIES)))
        return others


class Monitors(Group):
    """Limits of the reward-hacking monitors; each is growth over the SL policy or the start of training.

    ``cut_share``: at most this share of a training's rows may be longer than ``max_length``.

    ``general_text``: JSONL with ``text``, for the ability check; None: the bundled sample. ``general_texts``: at most
    this many of its texts; None: all.
    """

    length_growth: float = Field(default=1.5, gt=1)
    repetition_growth: float = Field(default=0.1, gt=0)
    refusal_growth: float = Field(default=0.1, gt=0)
    perplexity_growth: float = Field(default=1.1, gt=1)
    outlier_sigmas: float = Field(default=6.0, gt=0)
    cut_share: float = Field(default=0.01, ge=0, le=1)
    general_text: InProject | None = None
    general_texts: int | None = Field(default=None, ge=1)
