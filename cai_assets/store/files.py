"""Files on this machine: written atomically, and locks that the system releases when a process ends."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from cai_assets.errors import CaiError

LFS_POINTER = b"version https://git-lfs"  # how a file begins that Git LFS has left in place of the real one
TEMPORARY = ".*.tmp"  # what a killed writer leaves behind, beside shards
WRITING = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # and anywhere else, where others' files may lie


class CannotWrite(CaiError, OSError):
    """The system refuses to write a file: a full disk, a folder that is read-only. The message says what to do."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"{path} cannot be written ({cause.strerror or cause}): free space or permit writing there, "
                         "and run the command again; finished work is kept")
        self.errno = cause.errno


class State(NamedTuple):
    """What the system says of a file. Times in nanoseconds; ``ctime`` is one that no tool sets."""

    size: int
    mtime: int
    inode: int
    ctime: int

    @classmethod
    def of(cls, file: Path) -> State:
        return cls.said(file.stat())

    @classmethod
    def said(cls, said: os.stat_result) -> State:
        """From what the system has said."""
        return cls(said.st_size, said.st_mtime_ns, said.st_ino, said.st_ctime_ns)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that cannot be written: on a full disk the system does not."""
    try:
        yield
    except CaiError:  # of what is read to be written
        raise
    except OSError as e:
        raise CannotWrite(path, e) from e


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write so that a reader sees the old file or the whole new one, whatever happens in between."""
    with _written(path, data) as temporary:
        os.replace(temporary, path)


def write_once(path: Path, data: bytes) -> bool:
    """Write a file that is not there yet, whole or not at all; False if it is. Of two at once, one writes."""
    if path.exists():
        return False
    with _written(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def _written(path: Path, data: bytes | Iterable[bytes]) -> Iterator[Path]:
    """The data on disk under a name that no reader looks at, to be given its own name by the caller."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as f:
                f.writelines([data] if isinstance(data, bytes) else data)
                f.flush()
                os.fsync(f.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make what a library wrote survive a power cut."""
    with path.open("rb") as f:
        os.fsync(f.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for an exclusive lock, and hold it. The file stays: another process may be waiting on it."""
    with _lock(path, wait=True):
        yield


@contextmanager
def if_unlocked(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock if no one else does; return whether."""
    lock = _lock(path, wait=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock(path: Path, *, wait: bool) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its substitute for file systems without flock would outlive a killed process: an error is better.
    return FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
