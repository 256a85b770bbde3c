"""Ways to save memory that need a GPU and a package of their own, refused in one line where these are not there."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from cai_assets.engines.number_format import Device
from cai_assets.settings import Training
from cai_assets.train.problems import TrainingProblem


def option_arguments(settings: Training, on: Device) -> dict[str, Any]:
    """Arguments of a TRL trainer for the settings ``optimizer`` and ``liger``. Raise TrainingProblem, for ``quantized``
    too, where one cannot be had."""
    arguments: dict[str, Any] = {}
    if settings.optimizer == "adamw_8bit":
        _require("optimizer='adamw_8bit'", "bitsandbytes", on, "optimizer='adamw'")
        arguments["optim"] = "adamw_bnb_8bit"
    if settings.quantized:
        _require("quantized=true", "bitsandbytes", on, "quantized=false (adapters on the base as it is)")
    if settings.liger:
        _require("liger=true", "liger_kernel", on, "liger=false")
        arguments["use_liger_kernel"] = True
    return arguments


def quantization() -> Any:
    """A base in 4-bit NormalFloat, with its scales in 8 bits (Dettmers et al. 2023, arXiv 2305.14314, section 3)."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                              bnb_4bit_compute_dtype=torch.bfloat16)


def _require(setting: str, package: str, on: Device, instead: str) -> None:
    if not on.accelerator:
        raise TrainingProblem(f"{setting} needs a GPU, and there is none here: set {instead}")
    if find_spec(package) is None:
        raise TrainingProblem(f"{setting} needs the package {package.replace('_', '-')}, which is not installed: "
                              f"install it, or set {instead}")
