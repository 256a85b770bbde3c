"""What the three stages share: loading, trainer arguments, the training loop, and the folder it leaves.

Weights are float32 during training and are saved in the job's dtype. Matrix products use that format under autocast
where the device multiplies it in hardware (``engines/number_format.py``), else float32.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_assets.engines.number_format import device, product_format
from cai_assets.settings import Training
from cai_assets.store.files import sync_folder, write_atomic
from cai_assets.train.job import Job
from cai_assets.train.lora import adapted, keep_adapters, merged
from cai_assets.train.memory import checkpointed, peak
from cai_assets.train.options import option_arguments, quantization
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.resume import newest_complete
from cai_assets.train.sharding import is_sharded, sharding_arguments
from cai_assets.train.trackers import tracking

Columns = Mapping[str, str]
COMMON_COLUMNS = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate"}


def quiet() -> None:
    """Use all cores; keep libraries silent and offline. Call before the first of them is imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Busy-waiting threads halve the speed of whatever shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    import transformers

    keep_memory()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def keep_memory() -> None:
    """Have glibc keep freed memory for the next step: returning it and faulting it in again doubles a step on CPU."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    m_trim_threshold, m_mmap_max = -1, -4
    libc.mallopt(m_trim_threshold, 2**31 - 1)
    libc.mallopt(m_mmap_max, 0)


def load_causal(path: Path, *, quantized: bool = False) -> Any:
    """A causal language model in float32, or with its matrices in 4 bits."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True,
                                                **({"quantization_config": quantization()} if quantized else {}))


def load_scalar(path: Path, pad_token_id: int, *, quantized: bool = False) -> Any:
    """A model with one scalar output in float32, or with its matrices in 4 bits; its head is new if ``path`` is a
    language model."""
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=1, pad_token_id=pad_token_id, dtype=torch.float32, local_files_only=True,
        **({"quantization_config": quantization()} if quantized else {}))


def fresh_policy(job: Job, settings: Training) -> Any:
    """The policy before training, whole, with its adapters if it has any."""
    return adapted(load_causal(job.base), settings.lora, "CAUSAL_LM")


def trainer_arguments(job: Job, settings: Training, *, updates: int = 1) -> dict[str, Any]:
    """Arguments common to all trainers. ``updates`` optimizer updates make one of our steps."""
    import torch

    gpu = torch.cuda.is_available()
    # transformers' 'constant' leaves the warm-up out.
    schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    on = device()
    return {
        "output_dir": str(job.state),
        "seed": job.seed,
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "lr_scheduler_type": schedule,
        "warmup_steps": _warmup(settings.warmup_ratio),
        "max_grad_norm": settings.max_grad_norm,
        "bf16": product_format(job.dtype) == "bfloat16",
        "fp16": product_format(job.dtype) == "float16",
        "use_cpu": not gpu,
        "gradient_checkpointing": checkpointed(settings, on),
        "dataloader_pin_memory": gpu,
        "logging_steps": updates,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_every * updates,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
        **option_arguments(settings, on),
        **sharding_arguments(settings, on),
    }


def _warmup(ratio: float) -> float:
    # transformers reads 1 as one step and less than 1 as a share.
    return min(ratio, 1 - 1e-9)


def train(
    job: Job, trainer: Any, reporter: Reporter, columns: Columns, *, shown: tuple[str, ...], updates: int = 1
) -> int:
    """Train, from the newest complete checkpoint if there is one. Return the step it resumed from (0: the start)."""
    from transformers.trainer_callback import PrinterCallback

    from cai_assets.train.callbacks import Seal, Together, Watch

    trainer.remove_callback(PrinterCallback)
    watch = Watch(Curves(job.curves), reporter, columns, shown, updates)
    trainer.add_callback(watch)
    trainer.add_callback(Seal(job.key))
    if is_sharded(trainer):
        trainer.add_callback(Together())
    with trainer.accelerator.main_process_first():  # it removes incomplete checkpoints
        checkpoint = newest_complete(job.state, job.key, reporter.say, needs=getattr(trainer, "state_files", ()))
    step = int(checkpoint.name.removeprefix("checkpoint-")) // updates if checkpoint else 0
    if checkpoint:
        reporter.say(f"resuming after step {step}")
    with tracking(job.reports if trainer.is_world_process_zero() else None, reporter.say) as watch.track:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.accelerator.wait_for_everyone()  # the first process removes the state when it publishes
    return step


def publish(job: Job, model: Any, tokenizer: Any, metrics: Mapping[str, Any]) -> None:
    """Write ``final`` and then ``metrics.json``, each atomically; remove the state.

    Adapters are merged into the weights; those of a policy are kept beside them as well.
    """
    import torch

    metrics = {**metrics, "memory_peak": peak()}
    unfinished = job.work / ".final.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    if job.kind != "reward":
        keep_adapters(model, unfinished, job.base, job.base_weights)
    model = merged(model)
    model.to(getattr(torch, job.dtype)).save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    if (job.base / "generation_config.json").is_file() and model.can_generate():
        shutil.copyfile(job.base / "generation_config.json", unfinished / "generation_config.json")
    sync_folder(unfinished)
    shutil.rmtree(job.final, ignore_errors=True)
    unfinished.rename(job.final)
    write_atomic(job.metrics, json.dumps(dict(metrics), indent=2, allow_nan=False).encode())
    shutil.rmtree(job.state, ignore_errors=True)


def loss_summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """First, last and mean loss of the curve."""
    losses = [row["loss"] for row in rows]
    return {"loss_first": losses[0], "loss_last": losses[-1], "loss_mean": sum(losses) / len(losses)}
