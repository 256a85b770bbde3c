"""Folders of files: a checkpoint's or an export's, here or where it was copied to, and folders that are made once."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from cai_assets.errors import CaiError
from cai_assets.store.files import locked, sync_file, sync_folder


class BrokenLink(CaiError, OSError):
    """A link leads nowhere. The message says which, and what to do."""


def refuse_broken_link(path: Path) -> None:
    """Raise BrokenLink for a link whose target is not there: of a disk that is not mounted, say."""
    if path.is_symlink() and not path.exists():
        raise BrokenLink(f"{path} is a link to {path.readlink()}, which is not there: mount that disk, or remove the "
                         "link to have it made again")


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


def move(source: Path, target: Path) -> None:
    """Give a file or folder another name that is free, in one rename: a reader sees all of it or none. Between two
    disks (``checkpoints`` may be a link to a larger one) what appears is a copy."""
    try:
        os.rename(source, target)
    except OSError as e:
        if e.errno != errno.EXDEV:
            raise
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            shutil.copytree(source, temporary) if source.is_dir() else shutil.copy2(source, temporary)
            for file in [temporary] if temporary.is_file() else files_in(temporary):
                sync_file(file)
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        remove(source)
    sync_folder(target.parent)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(p.stat().st_size for p in [path, *path.rglob("*")] if p.is_file())


def free(path: Path) -> int:
    """Bytes that are free on the disk of a folder."""
    return shutil.disk_usage(path).free


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link, whose target stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
