"""Checkpoints: trained models named by what they were made from.

A checkpoint with the wanted key is reused, whatever partition asks for it. Its folder appears by one rename (in an
object store, with its record, which is put last), complete: safetensors, tokenizer with chat template,
``record.json``, ``metrics.json``, ``curves.jsonl`` and the model card ``README.md``. Before it is used, each of its
files is compared with the digest in its record (``published.py``); what was damaged is set aside, and made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.errors import CaiError
from cai_assets.store import this_run
from cai_assets.store.canonical import digest_file
from cai_assets.store.damaged import set_aside
from cai_assets.store.file_digests import remembered
from cai_assets.store.files import TEMPORARY, sync_file, write_atomic
from cai_assets.store.folders import files_in, has, refuse_broken_link
from cai_assets.store.json_text import NotJson, parse_json
from cai_assets.store.layout import Layout
from cai_assets.store.published import CARD, RECORD, fault, read_about, unlisted, write_about


class UnlistedFile(CaiError, ValueError):
    """A checkpoint's folder has a file more than was published. The message says which, and what to do."""


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
        try:
            return [parse_json(line) for line in self.lines("curves.jsonl") if line]
        except ValueError as e:
            path, kind = self.path / "curves.jsonl", self.record["kind"]
            raise NotJson(f"{path} is not JSON ({e}): materialize {kind} again") from None

    def lines(self, name: str) -> list[str]:
        """The lines of a text file beside the weights. Raise FileNotFoundError."""
        return (self.path / name).read_text(encoding="utf-8").splitlines()


class Checkpoints:
    """All checkpoints under one data root."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def find(self, kind: str, key: str) -> Checkpoint | None:
        """The finished checkpoint with this key, if there is one, to look at what its record says.

        None, and a warning, where that cannot be read.
        """
        path = self.local(kind, key)
        try:
            return Checkpoint(key, path, read_about(path)) if has(path, RECORD) else None
        except ValueError as e:
            this_run.tell(str(e))
            return None

    def whole(self, kind: str, key: str, *, read: bool = False) -> Checkpoint | None:
        """The finished checkpoint with this key, to sample or train from: None if it is not there, or damaged.

        Each file is as its record says it was published, by its bytes where it does not look as remembered; ``read``:
        by its bytes in any case, once a run. Raise BrokenLink, or UnlistedFile.
        """
        path = self.local(kind, key)
        refuse_broken_link(path)
        return self.find(kind, key) if path.is_dir() and not self.damage(kind, key, read=read) else None

    def damage(self, kind: str, key: str, *, read: bool = False) -> str | None:
        """What is wrong with the folder of a checkpoint, with the file; None if that is whole, or not there."""
        path = self.local(kind, key)
        if not path.is_dir():
            return None
        with remembered(self._layout) as digests:
            digests.take(path.glob("*.safetensors"), read=read)
            digest = partial(digests, read=read)
            found = fault(path, digest, key=key)
            if found is None and (edited := fault(path, digest, only={CARD})):
                this_run.tell(f"{edited}; the model is not affected")
        if found is None and (more := unlisted(path)):
            raise UnlistedFile(more)
        return found

    def set_aside(self, kind: str, key: str) -> None:
        """Rename a damaged folder out of the way, and say so. For whoever is ``making`` it again."""
        found = self.damage(kind, key, read=True)
        if found:
            aside = set_aside(self._layout, self.path(kind, key))
            this_run.tell(f"{found}: the folder is set aside as {aside}, and {kind} is trained again")

    def paths(self) -> list[Path]:
        """Where every checkpoint is, whole or not."""
        names = (f"checkpoints/{kind}" for kind in self._layout.storage.folders("checkpoints"))
        return [self._layout.path(name, key) for name in names for key in self._layout.storage.folders(name)]

    def every(self) -> Iterator[Path]:
        """Every checkpoint's folder, whole or not."""
        return map(self._here, self.paths())

    def starting_with(self, key: str) -> list[Path]:
        """Folders of the checkpoints whose key begins like that."""
        return [self._here(p) for p in self.paths() if p.name.startswith(key.removeprefix("k1:"))]

    def work(self, key: str) -> Path:
        """The folder in which the checkpoint is being made; it survives a crash, so that training resumes."""
        return self._layout.folder("work", _name(key))

    @contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """Hold the key's lock, which is free again if the process dies, and give its work folder."""
        with self._layout.storage.lock(f"work/{_name(key)}.lock", wait=True):
            yield self.work(key)

    def publish(self, kind: str, key: str, staged: Path, *, record: Mapping[str, Any], card: str) -> Checkpoint:
        """Complete a staged folder and give it its final name: it appears with its record."""
        _remove_unfinished(staged)
        write_atomic(staged / "README.md", card.encode())
        files = {p.relative_to(staged).as_posix(): _settle(p) for p in files_in(staged) if p != staged / RECORD}
        full = write_about(staged, {"key": key, "kind": kind, **record, "files": files})
        path = self.path(kind, key)
        if not self._layout.storage.take(staged, self._layout.relative(path), last=RECORD):
            this_run.tell(f"{path} was made by another process meanwhile, and that one is used")
            return Checkpoint(key, self.local(kind, key), read_about(path))
        with remembered(self._layout) as digests:
            for name, digest in files.items():
                digests.note(path / name, digest)
        shutil.rmtree(self.work(key), ignore_errors=True)
        return Checkpoint(key, path, full)

    def path(self, kind: str, key: str) -> Path:
        """Where a checkpoint is, or will be once it is published."""
        return self._layout.path("checkpoints", kind, _name(key))

    def local(self, kind: str, key: str) -> Path:
        """Where a checkpoint is, with its files on this machine."""
        return self._here(self.path(kind, key))

    def _here(self, path: Path) -> Path:
        return self._layout.absolute(self._layout.relative(path))


def _remove_unfinished(staged: Path) -> None:
    """Remove what a writer left that was killed while it completed the folder: no one else writes there."""
    for path in staged.rglob(TEMPORARY):
        path.unlink()


def _settle(path: Path) -> str:
    """Sync a file to disk, make it readable like any other (save_pretrained leaves 0600), and digest it."""
    path.chmod(0o644)
    sync_file(path)
    return digest_file(path)


def _name(key: str) -> str:
    return key.partition(":")[2]
