"""Folders of files: a checkpoint's or an export's, here or where it was copied to, and folders that are made once."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from cai_assets.store.files import locked


def has(folder: Path, name: str) -> bool:
    """Whether the folder has that file."""
    return (folder / name).is_file()


def read(folder: Path, name: str) -> bytes | None:
    """All of a file; None if it is not there."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        return None


def files_in(folder: Path) -> list[Path]:
    """Every file of the folder and those below it, by name."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


def made_once(final: Path, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` fills under another name, unless it is there: it appears complete, made by one process."""
    if not final.is_dir():
        with locked(final.with_name(f".{final.name}.lock")):
            if not final.is_dir():
                _appear(final, make)
    return final


def _appear(final: Path, make: Callable[[Path], None]) -> None:
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        make(temporary)
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
