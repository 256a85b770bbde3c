"""Writing a project's files, and bringing them to a new version. No file that somebody edited is ever replaced unasked.

``.cai/files.json`` holds the digest of each file as it was written: so an edited one is known.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from cai_assets.errors import CaiError
from cai_assets.starter.contents import FOR_OTHERS, OWN, contents, yours
from cai_assets.store.files import write_atomic
from cai_assets.store.json_text import read_json

WRITTEN = f"{OWN}/files.json"
State = Literal["new", "changed", "edited", "removed", "same"]


class NoProject(CaiError):
    """The folder is not one that ``cai init`` made. The message says what to do."""


class Step(NamedTuple):
    """What becomes of one file. 'new' and 'changed' ones are written; 'edited' ones, and those that were 'removed', are
    left as they are. ``diff``: from the file that is there to this version's, in unified form."""

    path: str
    state: State
    diff: str = ""


def init(folder: Path, *, deploy: bool = False) -> list[Step]:
    """Write the files that are not there, with ``deploy`` also those for other machines; return what became of each:
    'new', or 'same' if it was there already, or 'edited' if another was. Raise OSError where the folder cannot be
    written."""
    steps = [_first(folder, name, data) for name, data in contents(deploy=deploy).items()]
    _write(folder, steps)
    return steps


def steps(folder: Path, take: Collection[str] = ()) -> list[Step]:
    """What this version changes of a project's files. ``take``: those to be replaced though they were edited, or
    written though they were removed. Raise NoProject."""
    written = _written(folder)
    new = contents(deploy=any(name.startswith(FOR_OTHERS) for name in (*written, *take)))
    if unknown := sorted(set(take) - new.keys()):
        raise NoProject(f"--take {unknown[0]}: this version writes no such file; it writes {', '.join(new)}")
    return [_next(folder, name, data, written.get(name), taken=name in take)
            for name, data in new.items() if not yours(name) or name in take]


def apply(folder: Path, todo: Collection[Step]) -> None:
    """Write what is new or changed, and remember it."""
    _write(folder, todo)


def left_over(folder: Path) -> list[str]:
    """Files that an earlier version wrote and this one does not."""
    return sorted(name for name in _written(folder).keys() - contents(deploy=True).keys() if (folder / name).exists())


def _first(folder: Path, name: str, data: bytes) -> Step:
    path = folder / name
    if not path.exists():
        return Step(name, "new")
    return Step(name, "same" if path.is_file() and path.read_bytes() == data else "edited")


def _next(folder: Path, name: str, data: bytes, before: str | None, *, taken: bool) -> Step:
    path = folder / name
    if not path.exists():
        return Step(name, "new" if before is None or taken else "removed")
    here = path.read_bytes()
    if here == data:
        return Step(name, "same")
    if taken or digest(here) == before:
        return Step(name, "changed", diff(name, here, data))
    # edited; of a file that this version did not change there is nothing to say
    return Step(name, "same" if before == digest(data) else "edited", diff(name, here, data))


def _write(folder: Path, steps: Collection[Step]) -> None:
    new = contents(deploy=True)
    for step in steps:
        if step.state in {"new", "changed"}:
            (folder / step.path).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / step.path, new[step.path])
    written = dict(_written(folder)) if (folder / WRITTEN).exists() else {}
    known = {s.path: digest(new[s.path]) for s in steps
             if s.state in {"new", "changed"} or (s.state == "same" and (folder / s.path).read_bytes() == new[s.path])}
    if known.items() <= written.items() and written:
        return
    write_atomic(folder / WRITTEN, (json.dumps(written | known, indent=1, sort_keys=True) + "\n").encode())


def _written(folder: Path) -> dict[str, str]:
    path = folder / WRITTEN
    if not path.exists():
        raise NoProject(f"{folder}: no {WRITTEN}, so 'cai init' did not make this project: run 'cai init' in it, which "
                        "adds what is missing and replaces nothing")
    remedy = "remove it and run 'cai init', which writes it anew and replaces nothing"
    found = read_json(path, remedy=remedy)
    if not isinstance(found, dict):
        raise NoProject(f"{path} holds no digests: {remedy}")
    return {str(name): str(value) for name, value in found.items()}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def diff(name: str, old: bytes, new: bytes) -> str:
    """From one text to the other, in unified form; empty where one is no text."""
    return "".join(_lines(name, old, new))


def _lines(name: str, old: bytes, new: bytes) -> Iterator[str]:
    before, after = (data.decode("utf-8", errors="replace").splitlines(keepends=True) for data in (old, new))
    yield from difflib.unified_diff(before, after, f"{name} (yours)", f"{name} (this version)")
