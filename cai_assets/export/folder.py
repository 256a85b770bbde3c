"""The folder that an export writes.

Guarantees: it appears complete, in one rename, or not at all; existing content is replaced only on request, and never
a folder that holds more than an export; no text file in it names a private place of this machine; every file's
digest is listed in it, in ``record.json`` or SHA256SUMS, and ``cai verify FOLDER`` checks them.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cai_assets.export.extra import ExportError
from cai_assets.store.files import sync_folder
from cai_assets.store.layout import safe_name
from cai_assets.store.published import RECORD
from cai_assets.store.storage import UnsafeName
from cai_assets.store.sums import write_sums

TEXT = {".json", ".jsonl", ".md", ".txt", ".jinja", ".yaml", ".yml", ".py", ".csv", ""}


@contextmanager
def fresh(out: Path, *, force: bool, private: Sequence[Path]) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when the block succeeds.

    ``private``: folders whose paths must not appear in its text files, the data root for one. Raise ExportError if
    ``out`` is not empty (with ``force`` it is replaced), or a file names a private place.
    """
    out = out.expanduser().resolve()
    _refuse(out, force, private)
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.parent / f".{out.name}.{uuid.uuid4().hex}.tmp"
    staged.mkdir()
    try:
        yield staged
        for leak in leaks(staged, private):
            raise ExportError(f"{leak}: nothing was exported, because that path would leave this machine; remove it "
                              "from the text that names it")
        if not (staged / RECORD).exists():
            write_sums(staged)
        _replace(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def leaks(folder: Path, private: Sequence[Path]) -> list[str]:
    """Text files of a folder that name one of the private places."""
    needles = sorted({str(p) for p in private} - {"/"})
    named = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in TEXT):
        text = path.read_text(encoding="utf-8", errors="replace")
        named += [f"{path.relative_to(folder).as_posix()} names {n}" for n in needles if f"{n}/" in text]
    return named


def file_name(name: str) -> str:
    """``name`` if it may be a file's name here; raise ExportError otherwise."""
    try:
        return safe_name(name)
    except UnsafeName as e:
        raise ExportError(str(e)) from None


def _refuse(out: Path, force: bool, private: Sequence[Path]) -> None:
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file: name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ExportError(f"{out} is not empty: name another folder, or replace it with --force")
    kept = [Path.cwd().resolve(), *(p.resolve() for p in private)]
    if force and ((out / ".git").exists() or any(k.is_relative_to(out) for k in kept)):
        raise ExportError(f"{out} holds more than an export and is not replaced: name another folder with --out")
    data_root = private[0].resolve() if private else None
    if data_root and out.is_relative_to(data_root):
        raise ExportError(f"{out} is inside the data root {data_root}: name a folder elsewhere with --out")


def _replace(staged: Path, out: Path) -> None:
    staged.chmod(0o755)
    before = out.parent / f"{staged.name}.before"
    if out.exists():
        os.replace(out, before)
    os.replace(staged, out)
    sync_folder(out.parent)
    shutil.rmtree(before, ignore_errors=True)
