"""JSON that is read back: no name twice in one object, and a file that is not JSON is named with its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cai_assets.errors import CaiError


class NotJson(CaiError, ValueError):
    """A file is not JSON. The message says which, and what to do."""


class RepeatedName(CaiError, ValueError):
    """An object has one ``name`` twice: readers differ in which value counts."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is there twice")
        self.name = name


def parse_json(text: str | bytes) -> Any:
    """The value of a text. Raise ValueError; RepeatedName where an object has a name twice."""
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, *, remedy: str) -> Any:
    """The value of a file. Raise NotJson, or OSError if it cannot be opened."""
    try:
        return parse_json(path.read_bytes())
    except ValueError as e:
        raise NotJson(f"{path} is not JSON ({e}): {remedy}") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedName(next(n for n in names if names.count(n) > 1))
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_each_once)
