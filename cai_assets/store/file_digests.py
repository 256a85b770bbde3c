"""Digests of large files, remembered by path, size and time of change, so that weights are read once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cai_assets.store.canonical import digest_file
from cai_assets.store.files import write_atomic


class FileDigests:
    """``cache``: the JSON file they are kept in; None to remember nothing. A cache that cannot be read is empty."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._known: dict[str, str] = {}
        if cache and cache.is_file():
            try:
                self._known = {str(k): str(v) for k, v in json.loads(cache.read_text(encoding="utf-8")).items()}
            except (ValueError, AttributeError):
                self._known = {}
        self._before = len(self._known)

    def __call__(self, file: Path) -> str:
        key = _state(file)
        if key not in self._known:
            self._known[key] = digest_file(file)
        return self._known[key]

    def save(self) -> None:
        if self._cache and len(self._known) > self._before:
            write_atomic(self._cache, json.dumps(self._known, indent=1).encode())

    def changed(self) -> Iterator[Path]:
        """Files that look as remembered and have other bytes. Reads each of them."""
        for key, digest in sorted(self._known.items()):
            path = Path(key.rsplit("|", 2)[0])
            if path.is_file() and _state(path) == key and digest_file(path) != digest:
                yield path


def _state(file: Path) -> str:
    state = file.stat()
    return f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}"
