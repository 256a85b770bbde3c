"""How much memory a training takes at its peak, in bytes: known from the model's sizes and the settings alone.

What stays (weights, Adam's moments, frozen models) is counted (Rajbhandari et al. 2020, arXiv 1910.02054, section 3).
What one step adds is the larger of the backward pass and of sampling: activations, and beside them gradients or the
tiles of the loss, whose place gradients take. Bytes kept for a token in a layer are those that PyTorch's autograd saves
in transformers' decoders, counted with fake tensors. ``benchmarks/memory.py`` compares with measured peaks.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cai_assets.engines.model_shape import Shape
from cai_assets.engines.number_format import WIDTH, Device, Format
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.settings import Engine, Packed, Reinforcement, Training
from cai_assets.train.footprint import gb
from cai_assets.train.job import TrainingKind

FULL = 4  # bytes of a number that is trained, and of its gradient
MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of Adam's two moments
QUANTIZED = 0.5 + 0.0625  # bytes of a number in 4 bits, and of its share of the scale of its block of 64
PROCESS = 780_000_000  # the libraries themselves, with what the C library keeps
CONTEXT = 600_000_000  # of CUDA
TILE_TOKENS, TILE_WORDS = 4096, 32_768  # of TRL's language model head, which never holds all logits
TILES = {False: 12, True: 2}  # of them at once: in PyTorch's operations, and in one kernel on an accelerator
KILO = 1 if sys.platform == "darwin" else 1024  # the unit of getrusage
MEASURED_ROWS = 4  # ``train/ability.py``: whole texts, whose logits are kept three times


class Place(NamedTuple):
    """Where a training runs. ``dtype``: the format in which weights are saved (``engines/number_format.py``)."""

    device: Device
    dtype: Format

    @property
    def mixed(self) -> bool:
        """Whether products are in a shorter format than the weights."""
        return self.dtype != "float32" and self.dtype in self.device.multiplies


@dataclass(frozen=True)
class Need:
    """Bytes of one process at its peak, by what they are for."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        """The largest first: 'activations 2.7 GB, optimizer 1.1 GB'."""
        largest = sorted(self.parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name.replace('_', ' ')} {gb(size)}" for name, size in largest if size)


def training_need(base: Shape, group: Training, kind: TrainingKind, place: Place, *, graded_by: Shape | None = None
                  ) -> Need:
    """Of a training from a model of these sizes. ``graded_by``: the model whose scores are the reward."""
    rl = group if isinstance(group, Reinforcement) else None
    online = rl is not None and ALGORITHMS[rl.algorithm].online
    models = 2 if rl is not None and has_value_model(rl) else 1  # it is trained beside the policy
    divided = group.processes if group.sharding != "none" else 1
    numbers = _trained(base, group, kind)
    stays = {
        "weights": models * _weights(base, group) // divided,
        "optimizer": models * MOMENTS[group.optimizer] * numbers // divided,
        "reference": 0 if rl is None or group.lora else FULL * base.parameters,
        "reward_model": FULL * graded_by.parameters if graded_by else 0,
        "process": PROCESS + (CONTEXT if place.device.accelerator else 0),
    }
    copies = 2 if group.processes > 1 and divided == 1 else 1  # what is exchanged lies beside the gradients
    gradients = models * copies * FULL * numbers // divided
    step = max(_backward(base, group, kind, place, models, gradients), _ability(base, group, kind))
    sampling = _sampling(base, rl, place) if rl is not None and online else 0
    return Need({**stays, "gradients": gradients, "activations": step - gradients, "kv_cache": max(0, sampling - step)})


def checkpointed(group: Training, device: Device) -> bool:
    """Whether activations are computed again for the backward pass."""
    return device.accelerator if group.checkpointing is None else group.checkpointing


def has_value_model(rl: Reinforcement) -> bool:
    """Whether a whole value model is trained: not where it is a head on the policy."""
    return rl.algorithm == "ppo" and rl.value_model == "own"


def tokens_at_once(group: Training, kind: TrainingKind) -> int:
    """Of the largest minibatch: a pair of responses is two rows."""
    paired = kind == "reward" or (isinstance(group, Reinforcement) and not ALGORITHMS[group.algorithm].online)
    return group.batch_size * group.max_length * (2 if paired else 1)


def _trained(base: Shape, group: Training, kind: TrainingKind) -> int:
    if group.lora is None:
        return base.parameters
    return base.adapters(group.lora.rank) + (base.hidden if kind == "reward" else 0)


def _weights(base: Shape, group: Training) -> int:
    if group.lora is None:
        return FULL * base.parameters
    whole = int(QUANTIZED * base.in_layers) + WIDTH["bfloat16"] * (base.parameters - base.in_layers) \
        if group.quantized else FULL * base.parameters
    return whole + FULL * base.adapters(group.lora.rank)


def _backward(base: Shape, group: Training, kind: TrainingKind, place: Place, models: int, gradients: int) -> int:
    tokens = tokens_at_once(group, kind)
    padded = not (isinstance(group, Packed) and group.packing != "none")
    kept = tokens * _layers(base, group, place, group.max_length if padded else 0)
    copied = WIDTH["bfloat16"] * base.in_layers if place.mixed else 0  # each weight, in the format of products
    head = 0 if kind == "reward" else _head(base, tokens, place)
    beside = gradients + head if group.gradient_accumulation > 1 else max(gradients, head)
    return models * (kept + copied) + beside + _supervised_term(base, group, place)


def _layers(base: Shape, group: Training, place: Place, padded_to: int) -> int:
    """Bytes that are kept for one token."""
    one = _layer(base, place.mixed) + FULL * padded_to  # a mask of each position, where rows differ in length
    if checkpointed(group, place.device):
        return FULL * base.hidden * base.layers + one
    return one * base.layers


def _layer(base: Shape, mixed: bool) -> int:
    """In products' format: the inputs of products and what attention reads and gives; in float32: what is normalized,
    and the normalized."""
    product = 2 if mixed else FULL
    norms = 2 * (2 * FULL + product) * base.hidden + max(0, base.norms - 2) * 2 * FULL * base.hidden
    attention = 4 * product * base.queries + (2 * FULL * (base.queries + base.keys) if base.normed_heads else 0)
    return norms + attention + (4 if base.gated else 2) * product * base.inner


def _head(base: Shape, tokens: int, place: Place) -> int:
    """The loss of all tokens: tiles of logits, and the gradient of the head."""
    width = 2 if place.mixed else FULL
    tile = min(tokens, TILE_TOKENS) * min(base.vocabulary, TILE_WORDS) * width
    return TILES[place.device.accelerator] * tile + FULL * base.vocabulary * base.hidden


def _supervised_term(base: Shape, group: Training, place: Place) -> int:
    """Rows of SL data whose loss is added, with all of their logits."""
    if not isinstance(group, Reinforcement) or group.alpha is None:
        return 0
    tokens = group.batch_size * group.max_length
    return tokens * (_layers(base, group, place, group.max_length) + 3 * FULL * base.vocabulary)


def _ability(base: Shape, group: Training, kind: TrainingKind) -> int:
    """Perplexity before and after, in float32."""
    return 0 if kind == "reward" else MEASURED_ROWS * group.max_length * 3 * FULL * base.vocabulary


def _sampling(base: Shape, rl: Reinforcement, place: Place) -> int:
    """All responses of a step are sampled together by each process."""
    rows = max(1, rl.rollouts // rl.processes)
    width = 2 if place.mixed else FULL
    prompt = rows * (rl.max_length - rl.max_tokens) * FULL * (2 * base.inner + 4 * base.hidden)
    return rows * (rl.max_length * base.kv_bytes(width) + 3 * FULL * base.vocabulary) + prompt


def engine_need(base: Shape, engine: Engine, place: Place) -> Need:
    """Of an engine that serves a model of these sizes: at least one sequence of the longest length fits beside it."""
    width = WIDTH[place.dtype]
    one = engine.max_model_len * base.kv_bytes(width) // engine.tensor_parallel_size
    cache = one if place.device.accelerator else max(one, engine.cpu_kv_cache_gib * 2**30)
    return Need({"weights": width * base.parameters // engine.tensor_parallel_size, "kv_cache": cache,
                 "process": CONTEXT if place.device.accelerator else PROCESS})


def peak() -> int:
    """Bytes that this process has taken at most so far: of its GPU, or of the machine."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return resident_peak(os.getpid()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILO


def resident_peak(process: int) -> int:
    """What Linux says that a process took at most; 0 elsewhere. Unlike getrusage, without what its parent had taken."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
