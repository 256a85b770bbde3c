"""Checkpoints to resume from: only complete ones.

A checkpoint is complete when its marker, written last, names this job and the digest of every file. transformers
would take the highest-numbered folder, even an empty one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from cai_assets.store.files import write_atomic
from cai_assets.train.progress import Say

MARKER = "complete.json"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def mark_complete(checkpoint: Path, key: str) -> None:
    """Write the marker. Everything named in it is on disk before the marker is."""
    content = {"key": key, "files": _digests(checkpoint)}
    write_atomic(checkpoint / MARKER, json.dumps(content, sort_keys=True).encode())


def fault(checkpoint: Path, key: str) -> str | None:
    """Why a checkpoint cannot be resumed from, or None if it is complete."""
    marker = checkpoint / MARKER
    if not marker.is_file():
        return "it was never finished"
    try:
        content = json.loads(marker.read_bytes())
        files, owner = dict(content["files"]), content["key"]
    except (ValueError, KeyError, TypeError):
        return "its marker is unreadable"
    if owner != key:
        return f"it belongs to job {owner}"
    digests = _digests(checkpoint)
    damaged = sorted(name for name in files if digests.get(name) != files[name])
    if damaged:
        return f"damaged: {', '.join(damaged)}"
    return None if "trainer_state.json" in files else "it has no trainer_state.json"


def newest_complete(state: Path, key: str, say: Say, needs: Sequence[str] = ()) -> Path | None:
    """The newest complete checkpoint. Newer ones that are incomplete, or lack a file that this trainer ``needs``, are
    removed, with a warning."""
    if not state.is_dir():
        return None
    numbered = [(int(m[1]), p) for p in state.iterdir() if (m := CHECKPOINT.fullmatch(p.name)) and p.is_dir()]
    for _, checkpoint in sorted(numbered, reverse=True):
        lacks = [name for name in needs if not (checkpoint / name).is_file()]
        reason = fault(checkpoint, key) or (f"an earlier release saved it, without {lacks[0]}" if lacks else None)
        if reason is None:
            return checkpoint
        say(f"warning: {checkpoint.name} is skipped: {reason}")
        shutil.rmtree(checkpoint)
    return None


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MARKER)
    return {p.relative_to(folder).as_posix(): _digest(p) for p in files}


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        os.fsync(f.fileno())
        return hashlib.file_digest(f, "sha256").hexdigest()
