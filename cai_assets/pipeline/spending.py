"""Whose time and tokens an asset spends: the GPUs that it uses, and what served tokens cost."""

from __future__ import annotations

from typing import Any

from cai_assets.assets import CHECKPOINTS
from cai_assets.engines.pool import resolve_backend
from cai_assets.registry.engines import BACKENDS, SERVED
from cai_assets.settings import Model, Role, Settings, Training
from cai_assets.store.provenance import gpu_count
from cai_assets.store.records import Record

MILLION = 1_000_000
# Who answers most of an asset's calls.
ASKED: dict[str, Role] = {
    "written_prompts": "writer", "spec_documents": "writer", "initial_responses": "generator",
    "starting_responses": "policy", "critiques": "critic", "revisions": "critic",
    "response_pairs": "policy", "preference_pairs": "labeller", "evaluation": "policy", "suite_results": "policy",
    "round_quality": "judge", "constitution_tests": "policy",
    "stress": "labeller"}
TRAINED_BY = {"mid_policy": "mid", "sl_policy": "sl", "sft_baseline": "sl", "reward_model": "reward", "rl_policy": "rl"}


def asked(settings: Settings, asset: str) -> Model | None:
    """The model that answers most of an asset's calls; None for a training."""
    if asset in CHECKPOINTS:
        return None
    in_context = asset == "revisions" and settings.sl.source == "in_context"
    return settings.models.role("generator" if in_context else ASKED.get(asset, "generator"))


def gpus(settings: Settings, asset: str) -> int:
    """How many of this machine's GPUs an asset keeps busy; none while another machine answers."""
    model = asked(settings, asset)
    if model is None:
        group: Training = getattr(settings, TRAINED_BY[asset])
        return min(gpu_count(), group.processes)
    here = BACKENDS[resolve_backend(model)].in_process
    return min(gpu_count(), settings.engine.tensor_parallel_size) if here else 0


def cost(settings: Settings, asset: str, gpu_seconds: float, prompt_tokens: float, completion_tokens: float
         ) -> float | None:
    """US dollars: of GPU time, or of the tokens of a served model. None without a price."""
    model = asked(settings, asset)
    if model is not None and not BACKENDS[resolve_backend(model)].in_process:
        if model.price_input is None and model.price_output is None:
            return None
        return (prompt_tokens * (model.price_input or 0) + completion_tokens * (model.price_output or 0)) / MILLION
    return None if settings.price_per_gpu_hour is None else gpu_seconds / 3600 * settings.price_per_gpu_hour


def served_tokens(record: Record) -> int:
    """Tokens that a record's calls took of a served model, read and written; 0 where the model ran here."""
    return record.prompt_tokens + record.completion_tokens if _served(record) else 0


def dollars(record: Record, price_per_gpu_hour: float | None) -> float | None:
    """What a record cost: as ``cost``, by the model that it was made with. None without a price."""
    served = _served(record)
    if served is None:
        return None if price_per_gpu_hour is None else record.gpu_seconds / 3600 * price_per_gpu_hour
    prices = served.get("price_input"), served.get("price_output")
    if prices == (None, None):
        return None
    return (record.prompt_tokens * (prices[0] or 0) + record.completion_tokens * (prices[1] or 0)) / MILLION


def _served(record: Record) -> dict[str, Any] | None:
    """The setting of the served model that answered most of a record's calls; None if a model here did."""
    models = record.settings.get("models") or {}
    model = None if record.asset in CHECKPOINTS else models.get(ASKED.get(record.asset, "generator")) or models.get(
        "generator")
    return model if model and (model.get("base_urls") or model.get("backend") == SERVED) else None
