"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): what is trained when ``lora`` is set.

A published checkpoint never needs peft: adapters are merged into the weights before saving. They are kept beside them
as well, so that an engine that has the base loaded can serve them there (``engines/adapters.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from cai_assets.engines.adapters import BASE, CONFIG, FOLDER, WEIGHTS, adapters_of
from cai_assets.settings import Lora
from cai_assets.store.files import write_atomic


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


def keep_adapters(model: Any, checkpoint: Path, base: Path, weights: str) -> None:
    """Write a causal model's adapters into a checkpoint's folder, in the format of peft, and what they belong to: the
    model in the folder ``base``, whose identity names its ``weights``. Nothing, if it has none.

    Where that was itself trained as adapters that it keeps, both are written as one, on the base of those.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return
    folder = checkpoint / FOLDER
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config[BASE] = weights
    if (before := adapters_of(base)) is not None:
        config |= _joined(before.folder, folder)
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True).encode())


def _joined(first: Path, second: Path) -> dict[str, Any]:
    """Write two adapters of one model as one into the folder ``second``; return what changes in its configuration.

    s1 B1 A1 + s2 B2 A2 is one product of matrices of rank r1 + r2: each B times its scale, side by side.
    """
    import torch
    from safetensors.torch import load_file, save_file

    configs = [json.loads((folder / CONFIG).read_text(encoding="utf-8")) for folder in (first, second)]
    tensors = [load_file(folder / WEIGHTS) for folder in (first, second)]
    rank = sum(config["r"] for config in configs)
    scales = [config["lora_alpha"] / config["r"] for config in configs]
    both = {}
    for name in tensors[1]:
        parts = [part[name].float() for part in tensors]
        both[name] = torch.cat(parts) if ".lora_A." in name else torch.cat(
            [part * scale for part, scale in zip(parts, scales, strict=True)], dim=1)
    save_file(both, second / WEIGHTS, metadata={"format": "pt"})
    return {"r": rank, "lora_alpha": rank, BASE: configs[0][BASE]}
