"""One dial, ``scale``, from which every other setting derives; each one can be overridden.

Later wins: the scale's preset, a YAML file (``CAI_SETTINGS``, or ``settings.yaml`` in the project's root),
the environment (``CAI_RL__BETA=0.05``), then explicit overrides (the command line and the Dagster
launchpad). An unknown key is an error wherever it comes from. Relative paths count from the project's root:
the nearest folder, from the working directory upwards, that holds ``workspace.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Scale = Literal["smoke", "small", "full"]
Backend = Literal["auto", "vllm", "transformers", "openai", "scripted"]
BUILTIN_MODEL = "smollm2-135m-instruct"
NOT_SETTINGS = {"CAI_SETTINGS", "CAI_AUTOMATION"}


def project_root() -> Path:
    """The folder that holds ``workspace.yaml``, at or above the working directory; else the working directory."""
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "workspace.yaml").exists()), here)


class SettingsError(ValueError):
    """A setting is unknown or has a value it cannot have. The message says which and where from."""


class Group(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(Group):
    """One model. ``source``: 'smollm2-135m-instruct' (bundled by a package), a local folder, or a hub id.

    With ``base_urls`` the model is served elsewhere, by OpenAI-compatible servers, under the name ``source``;
    ``tokenizer`` then names a local tokenizer, so that prompts are sent as token ids.
    """

    source: str = BUILTIN_MODEL
    revision: str | None = None
    backend: Backend = "auto"
    base_urls: tuple[str, ...] = ()
    tokenizer: str | None = None
    api_key_env: str = "OPENAI_API_KEY"


class Models(Group):
    """Who does what. Everything but the generator defaults to the generator."""

    generator: Model = Model()
    critic: Model | None = None
    labeller: Model | None = None
    judge: Model | None = None
    policy: Model | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _a_name_is_enough(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    def role(self, name: Literal["generator", "critic", "labeller", "judge", "policy"]) -> Model:
        """The model that plays a role."""
        model: Model | None = getattr(self, name)
        return model or self.generator


class Engine(Group):
    """How models are run. None of this enters a row key except ``dtype`` and ``max_model_len``."""

    max_model_len: int = Field(default=4096, ge=128)
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1)
    tensor_parallel_size: int = Field(default=1, ge=1)
    max_num_seqs: int = Field(default=256, ge=1)
    cpu_kv_cache_gib: int = Field(default=1, ge=1)
    request_timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=5, ge=0)
    concurrency: int = Field(default=64, ge=1)


class Prompts(Group):
    """Which prompts take part. ``paths`` empty: the bundled sample."""

    paths: tuple[Path, ...] = ()
    red_team: int = Field(default=24, ge=1)
    helpful: int = Field(default=8, ge=0)
    eval_red_team: int = Field(default=8, ge=1)
    eval_helpful: int = Field(default=8, ge=1)
    max_chars: int = Field(default=8000, ge=1)


class Generation(Group):
    """Sampling of responses, critiques and revisions."""

    temperature: float = Field(default=0.7, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, ge=1)


class Critique(Group):
    """The critique and revision loop (Bai et al. 2022, section 3.1)."""

    rounds: int = Field(default=4, ge=1, le=16)
    style: Literal["plain", "chat"] = "chat"
    few_shots: bool = True


class Supervised(Group):
    """What the SL policy is trained on."""

    keep: Literal["all", "last"] = "all"
    helpful: bool = True


class Pairs(Group):
    """Response pairs, sampled from the SL policy."""

    temperature: float = Field(default=1.0, gt=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    per_prompt: int = Field(default=1, ge=1)


class Labels(Group):
    """AI preference labels (Bai et al. 2022, section 4.1)."""

    few_shots: bool = True
    style: Literal["plain", "chat"] = "chat"


class Training(Group):
    """Settings shared by every training stage."""

    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=8, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    max_length: int = Field(default=512, ge=16)
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: float = Field(default=1.0, gt=0)
    save_every: int = Field(default=50, ge=1)


class Reward(Training):
    """Reward model: a scalar head on the starting policy."""

    held_out: float = Field(default=0.2, gt=0, lt=1)


class Reinforcement(Training):
    """PPO (Schulman et al. 2017) with the KL penalty of section 4.1 of Bai et al. 2022."""

    algorithm: Literal["ppo"] = "ppo"
    steps: int = Field(default=4, ge=1)
    rollouts: int = Field(default=8, ge=1)
    ppo_epochs: int = Field(default=2, ge=1)
    max_tokens: int = Field(default=48, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.05, ge=0)
    kl_budget: float = Field(default=10.0, gt=0)
    clip: float = Field(default=0.2, gt=0)
    value_clip: float = Field(default=0.2, gt=0)
    value_coefficient: float = Field(default=0.1, ge=0)
    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    missing_eos_penalty: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _whole_updates(self) -> Reinforcement:
        update = self.batch_size * self.gradient_accumulation
        if self.rollouts % update:
            raise ValueError(f"rollouts={self.rollouts} must be a multiple of {update}, "
                             "which is batch_size times gradient_accumulation")
        return self


class Evaluation(Group):
    """Evaluation on held-apart prompts."""

    max_tokens: int = Field(default=256, ge=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)


class Settings(Group):
    """Everything. ``fresh_weekly``: the weekly schedule samples anew, with the ISO week as the seed."""

    scale: Scale = "smoke"
    data_root: Path = Field(default=Path("data"), validate_default=True)
    constitutions: Path = Field(default=Path("constitutions"), validate_default=True)
    seed: int = Field(default=0, ge=0)
    fresh_weekly: bool = False
    price_per_gpu_hour: float | None = Field(default=None, ge=0)
    models: Models = Models()
    engine: Engine = Engine()
    prompts: Prompts = Prompts()
    generation: Generation = Generation()
    critique: Critique = Critique()
    supervised: Supervised = Supervised()
    pairs: Pairs = Pairs()
    labels: Labels = Labels()
    sl: Training = Training()
    reward: Reward = Reward()
    rl: Reinforcement = Reinforcement()
    evaluation: Evaluation = Evaluation()

    @field_validator("data_root", "constitutions")
    @classmethod
    def _from_the_root(cls, path: Path) -> Path:
        return project_root() / path.expanduser()


# 'smoke' shows the machinery in minutes on two cores; 'full' has the proportions of Bai et al. 2022
# (182,831 red-team and 135,296 helpful prompts, 4 revisions, all kept; sampling at temperature 1).
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "engine": {"max_model_len": 2048},
        "generation": {"max_tokens": 64},
        "critique": {"rounds": 2, "style": "plain"},
        "labels": {"style": "plain"},
        "sl": {"learning_rate": 2e-5, "max_length": 256},
        "reward": {"learning_rate": 2e-5, "max_length": 256, "epochs": 2},
        "rl": {"learning_rate": 1e-6, "max_length": 256, "max_tokens": 32},
        "evaluation": {"max_tokens": 64},
    },
    "small": {
        "prompts": {"red_team": 2000, "helpful": 1000, "eval_red_team": 200, "eval_helpful": 200},
        "engine": {"max_model_len": 4096},
        "critique": {"rounds": 4},
        "sl": {"batch_size": 16, "gradient_accumulation": 2, "max_length": 1024, "warmup_ratio": 0.05},
        "reward": {"batch_size": 16, "gradient_accumulation": 4, "max_length": 1024},
        "rl": {"learning_rate": 1e-6, "steps": 200, "rollouts": 64, "batch_size": 16, "max_length": 1024,
               "max_tokens": 256},
    },
    "full": {
        "prompts": {"red_team": 182_831, "helpful": 135_296, "eval_red_team": 1000, "eval_helpful": 1000},
        "engine": {"max_model_len": 8192},
        "generation": {"temperature": 1.0, "max_tokens": 512},
        "critique": {"rounds": 4},
        "sl": {"batch_size": 16, "gradient_accumulation": 64, "max_length": 2048, "save_every": 200},
        "reward": {"batch_size": 16, "gradient_accumulation": 16, "max_length": 2048, "save_every": 200},
        "rl": {"learning_rate": 1e-6, "steps": 2000, "rollouts": 256, "batch_size": 16, "max_length": 2048,
               "max_tokens": 512, "save_every": 100},
        "evaluation": {"max_tokens": 512},
    },
}


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge all sources and check them. Raise SettingsError for anything unknown or out of range."""
    env = os.environ if environment is None else environment
    layers = [_from_file(file, env), _from_environment(env), dict(overrides or {})]
    scale = next((x["scale"] for x in reversed(layers) if "scale" in x), "smoke")
    if scale not in PRESETS:
        raise SettingsError(f"scale: {scale!r} is not one of {', '.join(PRESETS)}")
    merged: dict[str, Any] = {"scale": scale}
    for layer in (PRESETS[scale], *layers):
        merged = _merge(merged, layer)
    try:
        return Settings.model_validate(merged)
    except ValidationError as e:
        raise SettingsError(_explain(e)) from None


def _from_file(file: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
    named = file or (Path(env["CAI_SETTINGS"]) if env.get("CAI_SETTINGS") else None)
    path = named or project_root() / "settings.yaml"
    if not path.exists():
        if named:
            raise SettingsError(f"settings file {path} does not exist; create it or unset CAI_SETTINGS")
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected 'key: value' lines at the top level")
    return content


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    # pydantic-settings ignores CAI_ names it does not know; a misspelt setting must be an error instead.
    out: dict[str, Any] = {}
    for name, text in env.items():
        if not name.startswith("CAI_") or name in NOT_SETTINGS:
            continue
        *groups, leaf = name.removeprefix("CAI_").lower().split("__")
        here = out
        for group in groups:
            here = here.setdefault(group, {})
        here[leaf] = yaml.safe_load(text) if text.strip() else text
    return out


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        out[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return out


def _explain(error: ValidationError) -> str:
    lines = []
    for e in error.errors():
        where = ".".join(str(x) for x in e["loc"])
        what = "no such setting" if e["type"] == "extra_forbidden" else e["msg"]
        lines.append(f"{where}: {what}")
    return "settings: " + "; ".join(lines) + ". 'cai settings' prints every setting and its value."
