"""The headers of a model's safetensors files: what they say of each tensor, and how many numbers there are in all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

HEADER = 8  # bytes, little-endian: the length of the JSON that says what lies where
LONGEST = 100_000_000  # bytes of a header; safetensors' own limit


def tensors(header: bytes) -> dict[str, Any]:
    """What a header says of each tensor, by its name. Raise ValueError or AttributeError if it is not one."""
    return {name: said for name, said in json.loads(header).items() if name != "__metadata__"}


def parameters(folder: Path) -> int:
    """Number of parameters in a folder's weights; 0 for a file that is not safetensors, which no library will load."""
    return sum(_in(file) for file in sorted(folder.glob("*.safetensors")))


def _in(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER), "little")
        header = file.read(length) if length < LONGEST else b""
    try:
        return sum(math.prod(tensor["shape"]) for tensor in tensors(header).values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0
