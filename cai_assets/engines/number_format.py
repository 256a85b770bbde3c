"""Which number format weights and matrix products use: the one decision behind ``engine.dtype: auto``.

bfloat16 where the device multiplies it in hardware, float16 on GPUs that are too old for it, else float32. A processor
without the instruction emulates bfloat16: the same calls then take 3 to 4 times as long as in float32. The decision is
made before any key is computed, because the format enters the key of every row and checkpoint.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

Format = Literal["bfloat16", "float16", "float32"]
WIDTH: dict[Format, int] = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")
"""Flags of processors that multiply bfloat16: Intel's AMX, AVX-512 of Intel and AMD, Arm."""
ONEDNN_WITHOUT = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Values of ONEDNN_MAX_CPU_ISA under which oneDNN, which multiplies for PyTorch and vLLM, leaves them unused."""
ACCELERATORS = ("nvidia[0-9]*", "kfd", "dxg")  # device files of CUDA, ROCm and CUDA under WSL
BFLOAT16_CAPABILITY = (8, 0)


class NumberFormat(NamedTuple):
    """``reason``: why this format was chosen, worded to follow 'because'."""

    dtype: Format
    reason: str


class Device(NamedTuple):
    """What models run on. ``multiplies``: the formats it multiplies in hardware, the best for models first."""

    name: str
    multiplies: tuple[Format, ...]
    accelerator: bool = False


def number_format(wanted: str = "auto") -> NumberFormat:
    """The format that ``engine.dtype`` stands for here: an explicit one as it is, 'auto' by the device."""
    here = device()
    if wanted != "auto":
        slow = "" if wanted in here.multiplies else f", although {here.name} only emulates it, which is slow"
        return NumberFormat(wanted, f"engine.dtype sets it{slow}")  # type: ignore[arg-type]
    best = here.multiplies[0]
    if best == "bfloat16":
        return NumberFormat(best, f"{here.name} multiplies bfloat16 in hardware")
    return NumberFormat(best, f"{here.name} would have to emulate bfloat16")


def product_format(dtype: str) -> Format:
    """The format that training uses for matrix products when weights are saved as ``dtype``: never an emulated one."""
    return dtype if dtype in device().multiplies else "float32"


@lru_cache(maxsize=1)
def device() -> Device:
    """What models run on in this process; PyTorch is asked, and imported, only where there is an accelerator."""
    accelerated = any(path for pattern in ACCELERATORS for path in Path("/dev").glob(pattern))
    return (accelerated and torch_device()) or cpu(_flags())


def torch_device() -> Device | None:
    """The accelerator that PyTorch would use, if any; if there are several, the weakest."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    weakest = min(range(torch.cuda.device_count()), key=torch.cuda.get_device_capability)
    capability = torch.cuda.get_device_capability(weakest)
    name = f"{torch.cuda.get_device_name(weakest)} (compute capability {capability[0]}.{capability[1]})"
    return gpu(name, capability)


def gpu(name: str, capability: tuple[int, int]) -> Device:
    """A GPU by its compute capability."""
    newer: tuple[Format, ...] = ("bfloat16",) if capability >= BFLOAT16_CAPABILITY else ()
    return Device(name, (*newer, "float16", "float32"), accelerator=True)


def cpu(flags: frozenset[str]) -> Device:
    """A processor by the instruction sets that it names."""
    has = next((name for name in INSTRUCTIONS if name in flags), None)
    if has and os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ONEDNN_WITHOUT:
        return Device("this processor, as ONEDNN_MAX_CPU_ISA limits it,", ("float32",))
    if has:
        return Device(f"this processor ({has})", ("bfloat16", "float32"))
    return Device(f"this processor (without {', '.join(INSTRUCTIONS)})", ("float32",))


def _flags() -> frozenset[str]:
    """The instruction sets that Linux names; none where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(named, "").split())
