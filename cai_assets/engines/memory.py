"""Whether a model may stay in memory beside others: to start its engine again takes seconds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from cai_assets import settings
from cai_assets.engines.number_format import device

GIB = 2**30
COPIES = 4  # bfloat16 files become float32 weights, and are read beside them
LEFT = 4 * GIB  # for everything else on the machine
GROUP = Path("/sys/fs/cgroup")


def has_room(path: Path, engine: settings.Engine) -> bool:
    """Whether the model in this folder fits beside those that are loaded; never on an accelerator, whose memory vLLM
    takes as a whole."""
    if device().accelerator:
        return False
    weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return available() > COPIES * weights + engine.cpu_kv_cache_gib * GIB + LEFT


def available() -> int:
    """Bytes that can be taken without swapping, by Linux and by the limit of this container; 0 where neither says."""
    system, group = _of_the_system("MemAvailable"), _left_in_the_group()
    return min((n for n in (system, group) if n is not None), default=0)


@lru_cache(maxsize=1)
def capacity() -> int:
    """Bytes of the device that models run on: of the smallest accelerator, or of this machine as far as its container
    may use it; 0 where that cannot be told."""
    if device().accelerator:
        import torch

        return min(int(torch.cuda.get_device_properties(i).total_memory) for i in range(torch.cuda.device_count()))
    limit = _read(GROUP / "memory.max").strip()
    known = (_of_the_system("MemTotal"), int(limit) if limit.isdecimal() else None)
    return min((n for n in known if n is not None), default=0)


def _of_the_system(name: str) -> int | None:
    lines = _read(Path("/proc/meminfo")).splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _left_in_the_group() -> int | None:
    limit, used = (_read(GROUP / name).strip() for name in ("memory.max", "memory.current"))
    return int(limit) - int(used) if limit.isdecimal() and used.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
