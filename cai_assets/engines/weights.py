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
    return sum(map(math.prod, shapes(folder).values()))


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a folder's weights, by its name; of none in a file that is not safetensors."""
    return {name: shape for file in sorted(folder.glob("*.safetensors")) for name, shape in _in(file).items()}


def _in(path: Path) -> dict[str, tuple[int, ...]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER), "little")
        header = file.read(length) if length < LONGEST else b""
    try:
        return {name: tuple(map(int, tensor["shape"])) for name, tensor in tensors(header).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
