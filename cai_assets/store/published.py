"""What a published folder says of itself: ``record.json``, with a digest of every other file and a seal over itself.

Guarantee: what a fault names is a file that is not as it was published. ``README.md`` is the one file that people
edit, so it is asked for by name only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from cai_assets.errors import CaiError
from cai_assets.store.canonical import digest_lines
from cai_assets.store.files import write_atomic
from cai_assets.store.folders import has
from cai_assets.store.json_text import read_json
from cai_assets.store.sums import files

RECORD, CARD = "record.json", "README.md"
KEY = re.compile(r"k1:[0-9a-f]{32}")
LOADED = re.compile(r"(.*/)?([^/]+\.(safetensors|json|jinja|model|bin|pt|py)|(merges|vocab)\.txt)")
NOT_LOADED = {RECORD, "metrics.json", "lineage.json"}  # ours


def read_about(folder: Path) -> dict[str, Any]:
    """A published folder's own record. Raise OSError, or ValueError if it cannot be read."""
    about = read_json(folder / RECORD, remedy="materialize it again, or copy the folder again")
    if not isinstance(about, dict):
        raise ValueError(f"{folder / RECORD} is not a JSON object")
    return about


def write_about(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a folder's own record, with its seal; return it as it will be read."""
    record: dict[str, Any] = json.loads(json.dumps(dict(about)))
    sealed = {**record, "seal": seal(record)}
    write_atomic(folder / RECORD, json.dumps(sealed, indent=1, ensure_ascii=False).encode())
    return sealed


def seal(about: Mapping[str, Any]) -> str:
    """Digest of all that a ``record.json`` says, but for the seal itself."""
    return digest_lines("rec1", [json.dumps({k: v for k, v in about.items() if k != "seal"}, sort_keys=True)])


def is_loaded(name: str) -> bool:
    """Whether a model library may read a file of that name in a model's folder."""
    return name not in NOT_LOADED and bool(LOADED.fullmatch(name))


def fault(
    folder: Path, digest: Callable[[Path], str], *, key: str | None = None, only: Collection[str] | None = None,
) -> str | None:
    """The first file that is not as it was published, and what is wrong with it; None if there is none.

    ``digest``: of a file's bytes; ``key``: that the record must have. ``only``: these files; else all but CARD.
    """
    return next(chain(_of_record(folder, key), _of_files(folder, digest, only)), None)


def _of_record(folder: Path, key: str | None) -> Iterator[str]:
    path = folder / RECORD
    if not has(folder, RECORD):
        yield f"{path} is missing"
        return
    try:
        about = read_about(folder)
        said, _ = str(about["key"]), about["files"].items()
    except (ValueError, KeyError, AttributeError) as e:
        yield str(e) if isinstance(e, CaiError) else f"{path} cannot be read: {e!r}"
        return
    if about.get("seal", seal(about)) != seal(about):  # releases before seals wrote none
        yield f"{path} does not say what was written"
    elif key not in {None, said} or not KEY.fullmatch(said):
        yield f"{path} says it is {said}"


def _of_files(folder: Path, digest: Callable[[Path], str], only: Collection[str] | None) -> Iterator[str]:
    listed: dict[str, str] = read_about(folder)["files"]
    # A record lists itself where an earlier release was killed while it published, and went on later.
    for name in sorted(listed.keys() - {CARD, RECORD} if only is None else listed.keys() & set(only)):
        if not has(folder, name):
            yield f"{folder / name} is missing"
        elif digest(folder / name) != listed[name]:
            yield f"{folder / name} is not as {RECORD} says it was published"


def loaded_files(folder: Path) -> set[str]:
    """Names of the files that a model library may read: those in the folder, and those that its record lists."""
    return {name for name in {*files(folder), *read_about(folder)["files"]} if is_loaded(name)}


def unlisted(folder: Path) -> str | None:
    """The first file that a model library may read and that the record does not list, and what to do."""
    for name in sorted(loaded_files(folder) - set(read_about(folder)["files"])):
        return f"{folder / name} is not listed in {RECORD}, and a model library may read it: move it away"
    return None
