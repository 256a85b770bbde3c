"""A whole data root copied to another place: a folder or an object store, from which and to which it does not matter.

Guarantees: a blob that is counted as copied was read back from where it was put, and had the same digest; nothing that
is there already is overwritten with anything else, but for what is rebuilt or grows (``CHANGES``). What names others is
copied after them, so a copy that was interrupted is a data root too, with less in it; the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

from cai_assets.errors import CaiError
from cai_assets.store.objects import OF_THIS_MACHINE
from cai_assets.store.storage import Entry, Storage

AT_ONCE = 8
CHANGES = re.compile(r"reports/.*|constitutions-[a-z]+\.json|checkpoints/.*/README\.md")
LOCKS = re.compile(r"(.*/)?[^/]+\.lock")
AGAIN = "run the command again: it goes on from here"


class Copied(NamedTuple):
    """Files and bytes put, files that were there already, and folders of FROM that stay there."""

    files: int
    bytes: int
    there: int
    left: tuple[str, ...]


class CannotCopy(CaiError):
    """The copy is not whole. The message says why, and what to do."""


def copy_root(source: Storage, target: Storage, *, told: Callable[[str], None] = lambda _: None) -> Copied:
    """Copy everything but what a machine makes ready by itself. Raise CannotCopy. ``told``: each group, when done."""
    entries = [e for e in source.list("") if _moves(e.name)]
    if not entries:
        raise CannotCopy("there is no data root there: nothing to copy")
    files, size, there, known = 0, 0, 0, {e.name: e.size for e in target.list("")}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for rank, group in groupby(sorted(entries, key=lambda e: (_rank(e.name), e.name)), key=lambda e: _rank(e.name)):
            done = list(_all(pool, source, target, list(group), known))
            files, there = files + sum(put for _, put in done), there + sum(not put for _, put in done)
            size += sum(e.size for e, put in done if put)
            told(f"{GROUPS[rank]}: {len(done)} files are there, each with the digest that it has in FROM")
    return Copied(files, size, there, tuple(f for f in source.folders("") if f in OF_THIS_MACHINE))


GROUPS = ("rows, tables, snapshots, files of checkpoints", "records of checkpoints", "records")


def _rank(name: str) -> int:
    """What names others comes after them."""
    if name.startswith("records/"):
        return 2
    return int(name.startswith("checkpoints/") and name.endswith("/record.json"))


def _moves(name: str) -> bool:
    return name.partition("/")[0] not in OF_THIS_MACHINE and not LOCKS.fullmatch(name)


def _all(pool: ThreadPoolExecutor, source: Storage, target: Storage, entries: list[Entry], known: dict[str, int],
         ) -> Iterator[tuple[Entry, bool]]:
    """Each entry, and whether it had to be put."""
    yield from zip(entries, pool.map(lambda e: _one(source, target, e.name, known.get(e.name)), entries), strict=True)


def _one(source: Storage, target: Storage, name: str, size: int | None) -> bool:
    """Have the same blob there; whether it had to be put."""
    if size is not None:
        wanted, found = _digest(source, name), _digest(target, name)
        if wanted == found:
            return False
        if not CHANGES.fullmatch(name):
            raise CannotCopy(f"{name} is in both places and differs: that is another data root, or damage; remove it "
                             "there, or copy to an empty place")
    sent = hashlib.sha256()
    try:
        target.put(name, _noted(source.chunks(name), sent))
        found = _digest(target, name)
    except FileNotFoundError:
        raise CannotCopy(f"{name} was removed while it was copied: {AGAIN}") from None
    if found != sent.hexdigest():
        raise CannotCopy(f"{name} was put and reads back with other bytes: {AGAIN}, and see to the disk or the store "
                         "if this repeats")
    return True


def _noted(chunks: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _digest(storage: Storage, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in storage.chunks(name):
        digest.update(chunk)
    return digest.hexdigest()
