"""Checkpoints: trained models named by what they were made from.

A checkpoint with the wanted key is reused, whatever partition asks for it. Its folder appears by one
rename, complete: safetensors, tokenizer with chat template, ``record.json``, ``metrics.json``,
``curves.jsonl`` and the model card ``README.md``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.store.canonical import digest_file, digest_lines
from cai_assets.store.files import locked, sync_file, sync_folder, write_atomic
from cai_assets.store.folders import files_in, has
from cai_assets.store.layout import Layout

RECORD = "record.json"


class Checkpoint(NamedTuple):
    """A finished checkpoint. ``record``: key, kind, base, data, settings, metrics, files with their digests, and
    ``seal``, a digest of all the rest."""

    key: str
    path: Path
    record: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = self.record["metrics"]
        return metrics

    @property
    def curves(self) -> list[dict[str, Any]]:
        """One entry per training step."""
        return [json.loads(line) for line in self.lines("curves.jsonl") if line]

    def lines(self, name: str) -> list[str]:
        """The lines of a text file beside the weights. Raise FileNotFoundError."""
        return (self.path / name).read_text(encoding="utf-8").splitlines()


class Checkpoints:
    """All checkpoints under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def find(self, kind: str, key: str) -> Checkpoint | None:
        """The finished checkpoint with this key, if there is one."""
        path = self.path(kind, key)
        return Checkpoint(key, path, read_about(path)) if has(path, RECORD) else None

    def every(self) -> list[Path]:
        """Every checkpoint's folder, whole or not."""
        return sorted(self._layout.path("checkpoints").glob("*/*/"))

    def starting_with(self, key: str) -> list[Path]:
        """Folders of the checkpoints whose key begins like that."""
        return [p for p in self.every() if p.name.startswith(key.removeprefix("k1:"))]

    def work(self, key: str) -> Path:
        """The folder in which the checkpoint is being made; it survives a crash, so that training resumes."""
        return self._layout.folder("work", _name(key))

    @contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """Hold the key's lock (released by the system if the process dies) and give its work folder."""
        with locked(self._layout.folder("work") / f"{_name(key)}.lock"):
            yield self.work(key)

    def publish(self, kind: str, key: str, staged: Path, *, record: Mapping[str, Any], card: str) -> Checkpoint:
        """Complete a staged folder and give it its final name in one rename."""
        write_atomic(staged / "README.md", card.encode())
        files = {p.relative_to(staged).as_posix(): _settle(p) for p in files_in(staged)}
        full = write_about(staged, {"key": key, "kind": kind, **record, "files": files})
        path = self._layout.file("checkpoints", kind, _name(key))
        os.replace(staged, path)
        sync_folder(path.parent)
        shutil.rmtree(self.work(key), ignore_errors=True)
        return Checkpoint(key, path, full)

    def path(self, kind: str, key: str) -> Path:
        """Where a checkpoint is, or will be once it is published."""
        return self._layout.path("checkpoints", kind, _name(key))


def read_about(folder: Path) -> dict[str, Any]:
    """A checkpoint folder's own record. Raise OSError or ValueError if it cannot be read."""
    about: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return about


def write_about(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a checkpoint folder's own record, with its seal; return it as it will be read."""
    record: dict[str, Any] = json.loads(json.dumps(dict(about)))
    sealed = {**record, "seal": seal(record)}
    write_atomic(folder / RECORD, json.dumps(sealed, indent=1, ensure_ascii=False).encode())
    return sealed


def seal(about: Mapping[str, Any]) -> str:
    """Digest of all that a ``record.json`` says, but for the seal itself."""
    return digest_lines("rec1", [json.dumps({k: v for k, v in about.items() if k != "seal"}, sort_keys=True)])


def _settle(path: Path) -> str:
    """Sync a file to disk, make it readable like any other (save_pretrained leaves 0600), and digest it."""
    path.chmod(0o644)
    sync_file(path)
    return digest_file(path)


def _name(key: str) -> str:
    return key.partition(":")[2]
