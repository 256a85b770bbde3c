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
    """How models are run. Row keys hold of it ``dtype``, ``max_model_len``, and what of ``vllm`` changes numbers."""

    max_model_len: int = Field(default=4096, ge=128)
    """Most tokens of a prompt and its answer. Enters row keys."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of weights and products, in engines and training. 'auto': bfloat16 where the device multiplies it
    in hardware, float16 on older GPUs, otherwise float32. Enters row keys."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """Share of the GPU's memory that vLLM takes. Not set: left to vLLM."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs over which each model is split."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Most sequences that vLLM works on at once. Not set: left to vLLM."""
    cpu_kv_cache_gib: int = Field(default=1, ge=1)
    """GiB of the key-value cache on a CPU."""
    vllm: Annotated[dict[str, Any], OWN_HAND] = Field(default_factory=dict)
    """Further arguments of vLLM's EngineArgs, by their names there. Those that change numbers enter row keys."""
    request_timeout: float = Field(default=120.0, gt=0)
    """Seconds after which a call to a server is given up."""
    retries: int = Field(default=5, ge=0)
    """How often a call to a server is repeated before its row fails."""
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Most calls in flight over all servers of a model. 'auto': as many as make each of them faster."""
    patience: float = Field(default=600.0, ge=0)
    """Seconds that rows wait when no server of a model answers any more, before the run ends."""
    replicas: int | None = Field(default=None, ge=1)
    """Copies of each model that is not served, on a Ray cluster (docs/scale.md). Not set: each runs in this process."""
    ray_address: str = "auto"
    """Ray cluster of the replicas. 'auto': that of this machine; 'local': one started for this process."""

    @model_validator(mode="after")
    def _names_the_format(self) -> Engine:
        if self.replicas and self.dtype == "auto":
            raise ValueError("engine.replicas runs models on a Ray cluster, whose devices are not known here: set "
                             "engine.dtype, such as bfloat16")
        return self

    @property
    def gpus(self) -> int:
        """GPUs that a model in this process is spread over."""
        spread = ("pipeline_parallel_size", "data_parallel_size", "prefill_context_parallel_size")
        return self.tensor_parallel_size * math.prod(int(self.vllm.get(name) or 1) for name in spread)


class Prompts(Group):
    """Which prompts take part."""

    paths: tuple[InProject, ...] = ()
    """Files of prompts, or published sets (docs/data.md). Empty: the sample that comes with the package, which
    'bundled' names in a list."""
    columns: Columns = columns_field()
    """How the columns of all these files are called, where the usual names do not fit."""
    red_team: int = Field(default=24, ge=1)
    """Training prompts that try to elicit harm."""
    helpful: int = Field(default=8, ge=0)
    """Training prompts that ask for help."""
    eval_red_team: int = Field(default=8, ge=1)
    """Held-out prompts that try to elicit harm."""
    eval_helpful: int = Field(default=8, ge=1)
    """Held-out prompts that ask for help."""
    max_chars: int = Field(default=8000, ge=1)
    """Prompts longer than this are rejected."""

    @field_validator("paths", mode="before")
    @classmethod
    def _bundled_by_name(cls, paths: Any) -> Any:
        named = isinstance(paths, list | tuple)
        return [BUNDLED_PROMPTS if str(p) == "bundled" else p for p in paths] if named else paths

    @field_validator("columns")
    @classmethod
    def _are_read(cls, columns: Columns) -> Columns:
        return check(columns, "prompts", "prompts.columns")


class Written(Group):
    """Prompts that a model writes from the training prompts, beside these. Off while both shares are 0."""

    red_team: float = Field(default=0.0, ge=0, lt=1)
    """Share of the red-team training prompts that are written: 0.77 in the paper."""
    helpful: float = Field(default=0.0, ge=0, lt=1)
    """Share of the helpful training prompts that are written."""
    candidates: float = Field(default=2.0, ge=1, le=16)
    """How many are written for each that is wanted: repeats, copies, and what the judge rejects are left out."""
    examples: int = Field(default=4, ge=1, le=32)
    """Training prompts of one category that are shown for each."""
    constitution: InProject | None = None
    """Constitution file for whose principles, drawn by weight, red-team prompts are written. Not set: for none."""
    judge_above: float | None = Field(default=0.5, ge=0, lt=1)
    """The judge's probability that a prompt is of its kind must be above this. Not set: the judge is not asked."""
    style: Literal["plain", "chat"] = "chat"
    """Whether the writer continues a list, as a base model can, or is asked in a chat."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampling."""
    max_tokens: int = Field(default=128, ge=1)
    """Most tokens of a prompt."""

    @property
    def on(self) -> bool:
        """Whether any are written."""
        return bool(self.red_team or self.helpful)


class Generation(Group):
    """Sampling of responses, critiques and revisions."""

    temperature: float = Field(default=0.7, ge=0, le=10)
    """Sampling temperature of responses, critiques, and revisions."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampling."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of a response, critique, or revision."""


class Critique(Group):
    """The critique and revision loop (Bai et al. 2022, section 3.1)."""

    rounds: int = Field(default=4, ge=1, le=16)
    """Rounds of critique and revision for each prompt."""
    style: Literal["plain", "chat"] = "chat"
    """Whether the critic sees plain text, as in the paper, or a chat."""
    few_shots: bool = True
    """Whether the constitution's worked examples are shown to the critic."""
    mode: Literal["critique", "direct"] = "critique"
    """'direct' revises without a critique (Bai et al. 2022, figure 7)."""
    stop_above: float | None = Field(default=None, gt=0, lt=1)
    """A chain ends before a round when the critic's probability that nothing is left to criticize is above this."""
    why: bool = False
    """Whether a principle's reason ('why' in the constitution) follows its request."""
    shuffle: bool = False
    """A control: each revision answers the critique of another row."""

    @model_validator(mode="after")
    def _shuffles_critiques(self) -> Critique:
        if self.shuffle and self.mode == "direct":
            raise ValueError("shuffle=true exchanges critiques, but mode='direct' has none")
        return self


class Supervised(Group):
    """What the SL policy is trained on."""

    thoughts: Literal["mask", "train", "reasons"] = "mask"
    """Of a policy that keeps its thoughts: those before the responses are given, without a loss on them ('mask'), or
    learned ('train')."""
    keep: Literal["all", "last"] = "all"
    """Which revisions are trained on: every round's, or the last."""
    helpful: bool = True
    """Whether responses to helpful prompts are trained on, too."""
    mix: tuple[Source, ...] = ()
    """Files of general conversations, each with its share of the rows."""

    @field_validator("mix")
    @classmethod
    def _leaves_room(cls, mix: tuple[Source, ...]) -> tuple[Source, ...]:
        if sum(s.share for s in mix) >= 1:
            raise ValueError("the shares of supervised.mix leave nothing for the revisions: keep their sum below 1")
        for source in mix:
            check(source.columns, "conversations", "supervised.mix.columns")
        return mix


class Documents(Group):
    """Documents about the principles, which the policy is trained on before supervised learning. Off while per_kind is
    0."""

    per_kind: int = Field(default=0, ge=0, le=1000)
    """Documents of each kind that are written about each principle."""
    kinds: tuple[Literal["article", "dialogue", "memo"], ...] = ("article", "dialogue", "memo")
    """What is written: articles, dialogues, and memos."""
    style: Literal["plain", "chat"] = "chat"
    """Whether the writer continues a text, as a base model can, or is asked in a chat."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampling."""
    max_tokens: int = Field(default=512, ge=1)
    """Most tokens of a document."""
    mix: tuple[Source, ...] = ()
    """Files of general text (rows with 'text'), each with its share of the texts that are trained on."""

    @property
    def on(self) -> bool:
        """Whether any are written."""
        return bool(self.per_kind and self.kinds)

    @field_validator("mix")
    @classmethod
    def _leaves_room(cls, mix: tuple[Source, ...]) -> tuple[Source, ...]:
        if sum(s.share for s in mix) >= 1:
            raise ValueError("the shares of documents.mix leave nothing for the documents: keep their sum below 1")
        if mapped := [s.path.name for s in mix if s.columns.mapped]:
            raise ValueError(f"documents.mix: {mapped[0]} is read by its column 'text', and no columns can be mapped: "
                             "rename the column")
        return mix


class Pairs(Group):
    """Response pairs."""

    source: Literal["policy", "generator", "revision"] = "policy"
    """Where the two responses come from: samples of the SL policy (Bai et al. 2022), samples of the generator (an
    edited principle then leaves the pairs alone), or the initial response against the last revision."""
    temperatures: tuple[float, ...] = Field(default=(1.0,), min_length=1, max_length=16)
    """Temperatures in turn: the i-th candidate is sampled at the i-th of them."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampling."""
    candidates: int = Field(default=2, ge=2, le=16)
    """Responses sampled for each prompt."""
    combine: Literal["disjoint", "all"] = "disjoint"
    """Candidates are paired one after the other ('disjoint') or each with each ('all')."""
    helpful: bool = True
    """Whether helpful prompts get pairs, too."""

    @model_validator(mode="after")
    def _pairs_up(self) -> Pairs:
        if any(not 0 < t <= 10 for t in self.temperatures):
            raise ValueError("pairs.temperatures must be above 0 and at most 10")
        if self.combine == "disjoint" and self.candidates % 2:
            raise ValueError(f"pairs.candidates={self.candidates} cannot be paired off: use an even number, or "
                             "combine='all'")
        return self


class Labels(Group):
    """AI preference labels (Bai et al. 2022, section 4.1)."""

    few_shots: bool = True
    """Whether the constitution's worked examples are shown to the labeler."""
    style: Literal["plain", "chat"] = "chat"
    """Whether the labeler sees plain text, as in the paper, or a chat."""
    principles: Literal["drawn", "all", "vote"] = "drawn"
    """One principle drawn for each pair (the paper), all in one question, or one question for each whose answers are
    averaged ('vote'); of several priorities a lower one then decides only where the higher ones are undecided."""
    undecided: float = Field(default=0.05, ge=0, le=0.5)
    """A vote of several priorities is undecided where its probability is nearer to one half than this. Rewards by
    principles of several priorities read it, too."""
    why: bool = False
    """Whether a principle's reason ('why' in the constitution) follows its request."""
    chain_of_thought: bool = False
    """Whether the labeler writes its reasons first."""
    thought_tokens: int = Field(default=256, ge=1)
    """Most tokens of the reasons."""
    thought_temperature: float = Field(default=1.0, ge=0, le=10)
    """Sampling temperature of the reasons."""
    samples: int = Field(default=1, ge=1, le=64)
    """Reasons sampled for each pair. Their probabilities are averaged."""
    clamp: tuple[float, float] | None = None
    """Bounds of the target that the reward model learns from: [0.4, 0.6] in the paper, for chain of thought."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Labels:
        if self.samples > 1 and not self.chain_of_thought:
            raise ValueError("labels.samples above 1 needs chain_of_thought=true: without it every sample is the same "
                             "exact probability")
        if self.clamp and not 0 <= self.clamp[0] <= 0.5 <= self.clamp[1] <= 1:
            raise ValueError("labels.clamp must be (low, high) with 0 <= low <= 0.5 <= high <= 1")
        return self


class Gate(Group):
    """The judge gate: the labeler must agree with people before its labels train anything."""

    path: InProject | None = None
    """Human comparisons: a file or a published set (docs/data.md). Not set: the sample that comes with the package."""
    columns: Columns = columns_field()
    """How the file's columns are called, where the usual names do not fit."""
    pairs: int = Field(default=200, ge=1)
    """Most comparisons to ask the labeler about."""
    accuracy: float = Field(default=0.5, ge=0, lt=1)
    """The lower end of the accuracy's interval must be above this."""
    consistency: float = Field(default=0.5, ge=0, le=1)
    """At least this share of the pairs must get the same answer in both orders."""
    benchmarks: tuple[InProject, ...] = ()
    """Files of benchmarks in the shapes of RewardBench 2, RM-Bench, or JudgeBench, and of ladders of degraded answers
    (docs/data.md), on which a judge by looks fails."""
    benchmark_rows: int = Field(default=100, ge=1)
    """Most rows of each of these files."""
    hard_gap: float = Field(default=0.3, ge=0, le=1)
    """Of styles: the accuracy where looks speak for the better answer may exceed that where they speak against it by
    this much."""
    enforce: bool = True
    """Whether a labeler that fails stops the training. Otherwise the check only warns."""

    @field_validator("columns")
    @classmethod
    def _are_read(cls, columns: Columns) -> Columns:
        return check(columns, "comparisons", "gate.columns")


class Evaluation(Group):
    """Evaluation of finished policies on held-out prompts and suites."""

    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of a response."""
    confidence: float = Field(default=CONFIDENCE, gt=0, lt=1)
    """Coverage of the intervals."""
    samples: int = Field(default=1, ge=1, le=64)
    """Responses sampled for each prompt and case."""
    null: bool = True
    """Whether the base model is sampled once more, which shows what sampling alone does."""
    others: dict[str, Model] = Field(default_factory=dict)
    """Further policies by name, such as one trained by RLHF."""
    enough: int = Field(default=ENOUGH, ge=2)
    """With fewer prompts, the verdict on a difference is 'too few to tell'."""
    suites: tuple[str, ...] = ()
    """Names of the suites to run. Empty: all of the package and of suites_folder."""
    suites_folder: InProject = Field(default=Path("suites"), validate_default=True)
    """Folder of your own suites, one YAML file each (docs/suites.md)."""
    suite_cases: int = Field(default=200, ge=1)
    """Most cases of each suite and mode."""
    round_chains: int = Field(default=200, ge=1)
    """Most chains that are judged round by round."""

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


class Stress(Group):
    """The search for principles that contradict each other (Zhang et al. 2025, arXiv 2510.07686). Off while no prompts
    are asked for; a model writes these in the style and with the sampling of ``written``."""

    prompts_per_pair: int = Field(default=0, ge=0)
    """Trade-off prompts that a model writes for each pair of principles. 0: none."""
    path: InProject | None = None
    """File of trade-off prompts that a person has reviewed ('cai stress NAME --prompts FILE' writes one). Not set: a
    model writes them."""
    responses: int = Field(default=2, ge=2, le=64, multiple_of=2)
    """Responses to each prompt. They are compared two by two."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """Sampling temperature of the responses: without a difference between two there is nothing to compare."""
    paraphrases: int = Field(default=1, ge=0, le=16)
    """Other words for each principle's question, by which every response is judged once more."""

    @property
    def on(self) -> bool:
        """Whether anything is asked."""
        return bool(self.prompts_per_pair or self.path)


class Monitors(Group):
    """Limits of the reward-hacking monitors; each is growth over the SL policy or the start of training."""

    length_growth: float = Field(default=1.5, gt=1)
    """Responses may become this many times as long as the SL policy's."""
    repetition_growth: float = Field(default=0.1, gt=0)
    """Repetition may grow by this much over the SL policy's, and during training."""
    refusal_growth: float = Field(default=0.1, gt=0)
    """Refusals of helpful prompts may grow by this much over the SL policy's."""
    perplexity_growth: float = Field(default=1.1, gt=1)
    """Perplexity on general text may become this many times what it was before the training."""
    outlier_sigmas: float = Field(default=6.0, gt=0)
    """Rewards and value losses further than this many standard deviations from the mean are outliers."""
    sameness_growth: float = Field(default=0.1, gt=0)
    """With sl.source=in_context: the share of answers that nearly repeat one to another prompt may exceed that of the
    first responses by this much."""
    shortening: float = Field(default=0.5, gt=0, lt=1)
    """With sl.source=in_context: answers may lose this share of the words of the first responses."""
    cut_share: float = Field(default=0.01, ge=0, le=1)
    """At most this share of a training's rows may be longer than max_length."""
    general_text: InProject | None = None
    """JSONL file with 'text', for the check of general ability. Not set: the sample that comes with the package."""
    general_texts: int | None = Field(default=None, ge=1)
    """Most of its texts to use. Not set: all."""
