"""The machine that runs the tests, in a few lines; before the installation the number format is not known."""

from __future__ import annotations

import os
import platform
from pathlib import Path

TOLD = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16",
        "amx_int8", "asimd", "sve", "bf16", "i8mm")
"""Instruction sets of x86 and Arm that decide how fast a model runs."""


def told() -> dict[str, str]:
    about = processor()
    return {
        "processor": about.get("model name") or platform.processor() or platform.machine(),
        "instruction sets": " ".join(f for f in TOLD if f in about.get("flags", "").split()) or "not named here",
        "number format": number_format(),
        "cores": f"{usable_cores()} usable of {os.cpu_count()}",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()) + " (processes waiting, over 1, 5 and 15 minutes)",
    }


def processor() -> dict[str, str]:
    """What Linux says of the first core: 'model name', and the instruction sets as 'flags', on Arm too."""
    about: dict[str, str] = {}
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        name, _, value = line.partition(":")
        about.setdefault({"Features": "flags"}.get(name.strip(), name.strip()), value.strip())
    return about


def usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def number_format() -> str:
    wanted = os.environ.get("CAI_ENGINE__DTYPE", "auto")
    try:
        from cai_assets.engines import number_format as formats
    except ImportError:
        return f"{wanted} (not resolved: cai-assets is not installed yet)"
    return "{}, because {}".format(*formats.number_format(wanted))


if __name__ == "__main__":
    for name, value in told().items():
        print(f"{name:18}{value}", flush=True)
