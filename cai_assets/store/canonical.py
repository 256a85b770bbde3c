"""One canonical form and one tagged hash, used by every key and digest in the project.

Canonical form: JSON with sorted keys, no spaces, UTF-8, no NaN. Anything that JSON cannot carry exactly is
refused: silently writing ``str(x)`` would make keys that mean nothing. Hash: BLAKE2b, 128 bits, prefixed
with a tag that names what was hashed, so that a row key never passes for a checkpoint key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_PLAIN = frozenset({type(None), str, bool, int, float})
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the canonical text of ``value``; raise TypeError for what it cannot carry."""
    _check(value, "$")
    return _JSON.encode(value)


def tagged_hash(tag: str, value: Any) -> str:
    """Hash the canonical form: ``tag:<32 hex>``."""
    return f"{tag}:{hashlib.blake2b(canonical_json(value).encode(), digest_size=16).hexdigest()}"


def digest_bytes(text: str) -> bytes:
    """16 bytes that stand for a text in memory, where many are compared; never stored."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def digest_lines(tag: str, lines: Iterable[str], last: Callable[[], Iterable[str]] | None = None) -> str:
    """Hash a sequence of strings in the order given. Lengths are hashed too, so joins cannot collide.

    ``last``: gives one further line in pieces, as often as it is called: one that is too long to be held at once.
    """
    h = hashlib.blake2b(digest_size=16)
    for line in lines:
        data = line.encode()
        h.update(len(data).to_bytes(8, "big"))
        h.update(data)
    if last:
        h.update(sum(len(piece.encode()) for piece in last()).to_bytes(8, "big"))
        for piece in last():
            h.update(piece.encode())
    return f"{tag}:{h.hexdigest()}"


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, the form other tools print: ``sha256:<64 hex>``."""
    with path.open("rb") as f:
        return "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict | Mapping):
        for k, v in value.items():
            if not isinstance(k, str):
                raise TypeError(f"{where}: key {k!r} is not a string")
            if type(v) not in _PLAIN:
                _check(v, f"{where}.{k}")
    elif isinstance(value, list | tuple):
        for i, v in enumerate(value):
            if type(v) not in _PLAIN:
                _check(v, f"{where}[{i}]")
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise TypeError(f"{where}: cannot put a {type(value).__name__} into a key; convert it first")
