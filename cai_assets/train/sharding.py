"""A training divided among its processes: FSDP2 (Zhao et al. 2023, arXiv 2304.11277) or ZeRO-3 (Rajbhandari et al.
2020, arXiv 1910.02054). Each holds a part of the weights, gradients and moments; what is published and measured at the
end is whole again.

accelerate divides on accelerators only and says nothing elsewhere; here a CPU divides as well, by gloo.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from cai_assets.settings import Training
from cai_assets.train.memory import checkpointed
from cai_assets.train.problems import TrainingProblem


def sharding_arguments(settings: Training, on: Any) -> dict[str, Any]:
    """Arguments of a TRL trainer. ``on``: the device (``engines/number_format.py``). Raise TrainingProblem where
    DeepSpeed is asked for and not there."""
    match settings.sharding:
        case "fsdp":
            return {"fsdp": True, "gradient_checkpointing": False, "fsdp_config": {
                "version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True,
                "state_dict_type": "SHARDED_STATE_DICT", "activation_checkpointing": checkpointed(settings, on)}}
        case "zero3":
            if find_spec("deepspeed") is None or not on.accelerator:
                raise TrainingProblem("sharding='zero3' needs a GPU and the package deepspeed: install it, or set "
                                      "sharding='fsdp'")
            return {"deepspeed": zero3()}
        case _:
            return {}


def zero3() -> dict[str, Any]:
    """DeepSpeed's configuration; 'auto' is filled in from the trainer's arguments."""
    return {"zero_optimization": {"stage": 3, "overlap_comm": True, "contiguous_gradients": True,
                                  "stage3_gather_16bit_weights_on_model_save": True},
            "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}, "gradient_clipping": "auto",
            "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"}


def sharded(arguments: Any) -> Any:
    """A trainer's arguments; where they divide a training on a CPU, accelerate is told to do so."""
    if arguments.fsdp and arguments.use_cpu:
        from accelerate import PartialState
        from accelerate.utils import DistributedType

        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return arguments


def is_sharded(trainer: Any) -> bool:
    """Whether each process holds a part of the model only."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def whole_model(trainer: Any, fresh: Callable[[], Any]) -> Any:
    """The trained model, in the first process; call it in all of them. ``fresh``: the model before training, into which
    parts are gathered; None in the other processes then."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not is_sharded(trainer):
        return with_adapters_of(model, fresh()) if getattr(model, "is_loaded_in_4bit", False) else model
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return None
    model = fresh()
    model.load_state_dict(state)
    return model


def with_adapters_of(trained: Any, whole: Any) -> Any:
    """``whole``, a model with adapters, with those that were trained on the same base in 4 bits: they are merged into
    the weights themselves, not into their 4-bit copies."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    set_peft_model_state_dict(whole, get_peft_model_state_dict(trained))
    return whole


def local(tensor: Any) -> Any:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
