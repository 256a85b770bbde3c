"""Digests of large files, remembered with all that the system says of a file, so that weights are read once.

Size and time alone are not enough: ``rsync -t`` and ``tar`` set them as they were. A changed file has another inode or
another time of change (ctime), which no tool sets. A failing disk changes none of them: hence ``read``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cai_assets.store import this_run
from cai_assets.store.canonical import canonical_json, digest_file
from cai_assets.store.files import State, write_atomic
from cai_assets.store.json_text import parse_json
from cai_assets.store.layout import Layout


class FileDigests:
    """``cache``: the JSON file they are kept in; None to remember nothing. A cache that cannot be read is empty."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._known = _read(cache) if cache else {}
        self._new: dict[str, tuple[State, str]] = {}

    def __call__(self, file: Path, *, read: bool = False) -> str:
        """Digest of a file as it is now. ``read``: of its bytes, even if it looks as remembered; once a run."""
        name, state = str(file.resolve()), State.of(file)
        for known in (this_run.read.get(name), None if read else self._known.get(name)):
            if known and known[0] == state:
                return known[1]
        return self._note(name, state, digest_file(file))

    def take(self, files: Iterable[Path], *, read: bool = False) -> None:
        """Read several files at once, as far as they have to be read: a digest takes a core, and a disk serves some."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            list(threads.map(partial(self, read=read), files))

    def note(self, file: Path, digest: str) -> None:
        """Remember what this process has just read."""
        self._note(str(file.resolve()), State.of(file), digest)

    def _note(self, name: str, state: State, digest: str) -> str:
        this_run.read[name] = self._known[name] = self._new[name] = (state, digest)
        return digest

    def save(self) -> None:
        """Keep what is new, beside what other processes have kept meanwhile."""
        if self._cache and self._new:
            kept = {**_read(self._cache), **self._new}
            rows = {name: {**state._asdict(), "digest": digest} for name, (state, digest) in kept.items()}
            with suppress(OSError):  # a root that cannot be written is still read
                write_atomic(self._cache, canonical_json(rows).encode())
            self._new = {}

    def changed(self, *, but: Path) -> Iterator[Path]:
        """Files with the size and time of those remembered and other bytes. Reads each, ``but`` those of a folder."""
        for name, (state, digest) in sorted(self._known.items()):
            path = Path(name)
            alike = path.is_file() and State.of(path)[:2] == state[:2]
            if alike and not path.is_relative_to(but) and digest_file(path) != digest:
                yield path


@contextmanager
def remembered(layout: Layout | None) -> Iterator[FileDigests]:
    """The digests that a data root remembers; nothing is remembered without one."""
    digests = FileDigests(layout.path("models", "digests.json") if layout else None)
    yield digests
    digests.save()


def _read(cache: Path) -> dict[str, tuple[State, str]]:
    """Entries of earlier releases, which knew size and time alone, are left out: those files are read again."""
    try:
        entries: dict[str, Any] = parse_json(cache.read_bytes())
        return {name: (State(*(int(e[f]) for f in State._fields)), str(e["digest"]))
                for name, e in entries.items() if isinstance(e, dict)}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}
