"""Answers to a prompt that a person writes, sampled by ``cai ask`` in a process of its own.

So this server loads no model, gives no memory away, and makes the rows that the command makes. One at a time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from threading import Lock

from cai_assets.errors import CaiError

_sampling = Lock()


def sample(prompt: str, versions: Sequence[str]) -> None:
    """Sample what is missing, so that it is stored. Raise CaiError with what the command says is wrong."""
    if not _sampling.acquire(blocking=False):
        raise CaiError("answers to another prompt are being sampled: try again when they are there")
    try:
        done = subprocess.run([sys.executable, "-m", "cai_assets.cli", "ask", "-", *versions, "--json"],
                              input=prompt, capture_output=True, text=True, check=False)
    finally:
        _sampling.release()
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise CaiError(f"not sampled: {lines[-1] if lines else 'cai ask failed without a word'}")
