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
    return settings.models.role(_role(asset, settings.sl.source))


def _role(asset: str, source: str | None) -> Role:
    """``source``: ``sl.source``, which says who makes what stands for revisions."""
    return "generator" if asset == "revisions" and source == "in_context" else ASKED.get(asset, "generator")


def gpus(settings: Settings, asset: str) -> int:
    """How many GPUs an asset keeps busy; none while another machine answers. Nodes are taken to be like this one."""
    model = asked(settings, asset)
    if model is None:
        group: Training = getattr(settings, TRAINED_BY[asset])
        nodes = settings.nodes_of(group)
        return nodes * min(gpu_count(), group.processes // nodes)
    here = BACKENDS[resolve_backend(model)].in_process
    return min(gpu_count(), settings.engine.tensor_parallel_size) if here else 0


def cost(settings: Settings, asset: str, gpu_seconds: float, prompt_tokens: float, completion_tokens: float
         ) -> float | None:
    """US dollars: of GPU time, or of the tokens of a served model. None without a price."""
    model = asked(settings, asset)
    if model is not None and not BACKENDS[resolve_backend(model)].in_process:
        return _of_tokens(prompt_tokens, completion_tokens, model.price_input, model.price_output)
    return _of_gpus(gpu_seconds, settings.price_per_gpu_hour)


def _of_tokens(read: float, written: float, price_input: float | None, price_output: float | None) -> float | None:
    """Prices are for a million."""
    if price_input is None and price_output is None:
        return None
    return (read * (price_input or 0) + written * (price_output or 0)) / MILLION


def _of_gpus(seconds: float, price_per_hour: float | None) -> float | None:
    return None if price_per_hour is None else seconds / 3600 * price_per_hour


def served_tokens(record: Record) -> int:
    """Tokens that a record's calls took of a served model, read and written; 0 where the model ran here."""
    return record.prompt_tokens + record.completion_tokens if _served(record) else 0


def dollars(record: Record, price_per_gpu_hour: float | None) -> float | None:
    """What a record cost: as ``cost``, by the model that it was made with. None without a price."""
    served = _served(record)
    if served is None:
        return _of_gpus(record.gpu_seconds, price_per_gpu_hour)
    return _of_tokens(record.prompt_tokens, record.completion_tokens, served.get("price_input"),
                      served.get("price_output"))


def _served(record: Record) -> dict[str, Any] | None:
    """The setting of the served model that answered most of a record's calls; None if a model here did."""
    if record.asset in CHECKPOINTS:
        return None
    models, role = record.settings.get("models") or {}, _role(record.asset, record.settings.get("sl", {}).get("source"))
    model = models.get(role) or models.get("generator")
    return model if model and (model.get("base_urls") or model.get("backend") == SERVED) else None
