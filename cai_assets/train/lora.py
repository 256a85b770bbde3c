"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): what is trained when ``lora`` is set.

A published checkpoint never needs peft: adapters are merged into the weights before saving.
"""

from __future__ import annotations

from typing import Any, Literal

from cai_assets.settings import Lora


def lora_config(settings: Lora | None, task: Literal["CAUSAL_LM", "SEQ_CLS"]) -> Any:
    """The ``peft_config`` of a TRL trainer; None trains all weights. A scalar head is always trained whole."""
    if settings is None:
        return None
    from peft import LoraConfig

    return LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, task_type=task,
                      target_modules="all-linear", modules_to_save=["score"] if task == "SEQ_CLS" else None)


def adapted(model: Any, settings: Lora | None, task: Literal["CAUSAL_LM", "SEQ_CLS"]) -> Any:
    """The model with new adapters; the model itself without settings."""
    if settings is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, lora_config(settings, task))


def merged(model: Any) -> Any:
    """The model with its adapters merged in; the model itself if it has none."""
    from peft import PeftModel

    return model.merge_and_unload() if isinstance(model, PeftModel) else model
