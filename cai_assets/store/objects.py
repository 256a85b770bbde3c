"""Storage in an object store (S3, Google Cloud Storage, Azure), through obstore.

What a POSIX folder does by rename, link and flock is done here by conditional puts, so a store that has none is refused
when it is opened. A folder appears with the file that is put last. Credentials are read from the environment, by
obstore alone. Libraries open copies on this machine (``copies.py``).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import lru_cache
from itertools import chain, islice
from os import environ
from pathlib import Path
from typing import Any, TypeVar

from cai_assets.errors import CaiError
from cai_assets.store import folders
from cai_assets.store.copies import Copies
from cai_assets.store.leases import Version, leased
from cai_assets.store.storage import CHUNK, Entry

PROBE = ".conditional-put"
DENIED = re.compile(r"status code: 40[13]\b")  # a listing that is denied comes as a general error
T = TypeVar("T")
R = TypeVar("R")
OF_THIS_MACHINE = {"work", "models"}  # folders that stay in the folder of copies: unfinished, or made ready again
PAGE = 1000  # objects of a listing that a store gives at once
AT_ONCE = 16  # requests
PART = CHUNK  # bytes of a large object that one request asks for
RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=60)}
FIRST_RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=15)}


class ObjectsUnusable(CaiError, OSError):
    """An object store cannot be used, or does not answer. The message says which, and what to do."""


@lru_cache(maxsize=8)
def open_objects(url: str) -> ObjectFolder:
    """The storage below a URL, once a process. Raise ObjectsUnusable for a store without conditional puts."""
    try:
        from obstore.store import from_url
    except ImportError:
        raise ObjectsUnusable(f"{url} needs a library that is not installed: pip install 'cai-assets[objects]'"
                              ) from None
    ObjectFolder(url, from_url(url, retry_config=FIRST_RETRIES)).refuse_unconditional()
    return ObjectFolder(url, from_url(url, retry_config=RETRIES))


def copies_folder(url: str) -> Path:
    """Where this machine has copies of what lies below a URL."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    scheme, _, rest = url.partition("://")
    return (cache / "cai-assets" / scheme / rest).resolve()


class ObjectFolder:
    """Storage below one URL. ``root``: the folder of copies."""

    def __init__(self, url: str, store: Any) -> None:
        self.url, self._store = url, store
        self._copies = Copies(copies_folder(url))
        self.root = self._copies.root

    def refuse_unconditional(self) -> None:
        """Raise ObjectsUnusable unless the store refuses to put what is there, and to replace what is not as named."""
        try:
            self.create(PROBE, b"")
            safe = self.create(PROBE, b"") is None and self.replace(PROBE, b"", {"e_tag": '"none"'}) is None
        except PermissionError:  # may only read
            return
        if not safe:
            raise ObjectsUnusable(f"{self.url} overwrites what is there although asked not to: without conditional "
                                  "puts two writers lose each other's work; use a store, or a release of it, that has "
                                  "them")

    def get(self, name: str) -> bytes:
        self._copies.path(name)
        with self._asked(name) as obstore:
            return bytes(obstore.get(self._store, name).bytes())

    def chunks(self, name: str) -> Iterator[bytes]:
        self._copies.path(name)
        with self._asked(name) as obstore:
            for chunk in obstore.get(self._store, name).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def put(self, name: str, data: bytes | Iterable[bytes]) -> None:
        self._copies.path(name)
        with self._asked(name) as obstore:
            tag = obstore.put(self._store, name, data)["e_tag"]
        if isinstance(data, bytes):
            self._copies.keep(name, tag, [data])

    def put_if_absent(self, name: str, data: bytes) -> bool:
        made = self.create(name, data)
        if made is not None:
            self._copies.keep(name, made["e_tag"], [data])
        return made is not None

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        while True:
            try:
                with self._asked(name) as obstore:
                    got = obstore.get(self._store, name)
                    version, now = _version(got.meta), bytes(got.bytes())
            except FileNotFoundError:
                version, now = None, None
            if (new := change(now)) is None:
                return False
            if (self.replace(name, new, version) if version else self.create(name, new)) is not None:
                return True

    def list(self, name: str) -> list[Entry]:
        found = [Entry(o["path"], o["size"], o["last_modified"].timestamp(), str(o["e_tag"]))
                 for o in self._objects(name)]
        return sorted((e for e in found if not _hidden(e.name)), key=lambda e: e.name.split("/"))

    def folders(self, name: str) -> Sequence[str]:
        with self._asked(name) as obstore:
            below = obstore.list_with_delimiter(self._store, prefix=name)["common_prefixes"]
        return sorted(last for last in (p.rstrip("/").rpartition("/")[2] for p in below) if not _hidden(last))

    def delete(self, *names: str) -> None:
        def one(name: str) -> None:
            self._copies.drop(name)
            try:
                with self._asked(name) as obstore:
                    obstore.delete(self._store, name)
            except FileNotFoundError:
                pass

        _each(one, names)

    def local(self, name: str) -> Path:
        path = self._copies.path(name)
        while name.partition("/")[0] not in OF_THIS_MACHINE:
            try:
                there = self._fetched(self._objects(name))
            except FileNotFoundError:  # deleted meanwhile, by compaction, or replaced: what is there now?
                continue
            for gone in {*self._copies.below(name), name}.difference(there):
                self._copies.drop(gone)
            break
        return path

    def take(self, source: Path, name: str, *, last: str = "") -> bool:
        free = not last or self.version(f"{name}/{last}") is None
        taken = free and self._taken(source, name, last)
        if source.exists():
            folders.remove(source)
        return taken

    def _taken(self, source: Path, name: str, last: str) -> bool:
        single = source.is_file()
        files = {name if single else f"{name}/{p.relative_to(source).as_posix()}": p for p in
                 ([source] if single else folders.files_in(source))}
        final = f"{name}/{last}"
        others = sorted(files.keys() - {final})
        tags = dict(zip(others, _each(lambda one: self._upload(one, files[one]), others), strict=True))
        if final in files:
            if (made := self.create(final, files[final].read_bytes())) is None:
                return False
            tags[final] = made["e_tag"]
        for one, file in files.items():
            self._copies.adopt(one, tags[one], file)
        return True

    def move(self, name: str, to: str) -> None:
        names = [o["path"] for o in self._objects(name)]
        for one in names:
            with self._asked(one) as obstore:
                obstore.copy(self._store, one, to + one.removeprefix(name))
        self._delete_last_first(names)

    def remove(self, name: str) -> None:
        self._delete_last_first([o["path"] for o in self._objects(name)])

    def lock(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        return leased(self, name, wait=wait)

    def create(self, name: str, data: bytes) -> Version | None:
        """Put an object that is not there; None if it is."""
        return self._put_where(name, data, "create")

    def replace(self, name: str, data: bytes, version: Version) -> Version | None:
        """Put an object in place of that version; None if it is another one by now, or gone."""
        return self._put_where(name, data, version)

    def version(self, name: str) -> Version | None:
        """The version of an object; None if it is not there."""
        try:
            with self._asked(name) as obstore:
                return _version(obstore.head(self._store, name))
        except FileNotFoundError:
            return None

    def _put_where(self, name: str, data: bytes, mode: Any) -> Version | None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        self._copies.path(name)
        with self._asked(name) as obstore:
            try:
                return _version(obstore.put(self._store, name, data, mode=mode, use_multipart=False))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None

    def _upload(self, name: str, file: Path) -> str:
        with self._asked(name) as obstore:
            return str(obstore.put(self._store, name, file)["e_tag"])

    def _fetched(self, listed: Sequence[Any]) -> Sequence[str]:
        """Have copies of objects that were listed; return their names. Raise FileNotFoundError if one has changed."""
        old = [o for o in listed if not self._copies.fresh(o["path"], o["e_tag"])]
        _each(self._fetch, [o for o in old if o["size"] <= PART])
        for large in (o for o in old if o["size"] > PART):
            self._fetch(large)
        return [str(o["path"]) for o in listed]

    def _fetch(self, listed: Any) -> None:
        name, options = listed["path"], {"range": (0, PART)} if listed["size"] > PART else None
        with self._asked(name) as obstore:
            got = obstore.get(self._store, name, options=options)
            first, meta = bytes(got.bytes()), got.meta
        self._copies.keep(name, meta["e_tag"], chain([first], self._rest(meta, len(first))))

    def _rest(self, meta: Any, begin: int) -> Iterator[bytes]:
        """An object from a place to its end, some parts asked for at once: a store limits the rate of each answer."""
        starts = iter(range(begin, meta["size"], PART))
        if begin == meta["size"]:
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = deque(pool.submit(self._part, meta, start) for start in islice(starts, AT_ONCE))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(self._part, meta, start) for start in islice(starts, 1))

    def _part(self, meta: Any, start: int) -> bytes:
        """Raise Replaced if another object has its name now."""
        from obstore.exceptions import PreconditionError

        name, end = meta["path"], min(start + PART, meta["size"])
        with self._asked(name) as obstore:
            try:
                options = {"range": (start, end), "if_match": meta["e_tag"]}
                return bytes(obstore.get(self._store, name, options=options).bytes())
            except (PreconditionError, FileNotFoundError):
                raise Replaced(f"{self.url}/{name} was replaced while it was read: run the command again") from None

    def _delete_last_first(self, names: Iterable[str]) -> None:
        """A folder is complete with its record, so that goes first."""
        for name in sorted(names, key=lambda n: not n.endswith("/record.json")):
            self.delete(name)

    def _objects(self, name: str) -> Sequence[Any]:
        """The object of that name, or those below it. A listing of several pages is made until it has all that the one
        before it had: between two pages compaction may put in front what it removes behind."""
        self._copies.path(name)
        before: set[str] | None = None
        while True:
            with self._asked(name) as obstore:
                now = [o for page in obstore.list(self._store, prefix=name) for o in page]
            names = {o["path"] for o in now}
            if len(now) < PAGE or (before is not None and before <= names):
                return now or self._one(name)
            before = names

    def _one(self, name: str) -> Sequence[Any]:
        try:
            with self._asked(name) as obstore:
                return [obstore.head(self._store, name)] if name else []
        except FileNotFoundError:
            return []

    @contextmanager
    def _asked(self, name: str) -> Iterator[Any]:
        """The library. What it cannot do is said in one line, without what a store may echo: headers, queries."""
        import obstore
        from obstore.exceptions import (
            AlreadyExistsError,
            BaseError,
            PermissionDeniedError,
            PreconditionError,
            UnauthenticatedError,
        )

        where = f"{self.url}/{name}"
        try:
            yield obstore
        except (AlreadyExistsError, PreconditionError):
            raise
        except BaseError as e:
            if isinstance(e, PermissionDeniedError | UnauthenticatedError) or DENIED.search(_cause(e)):
                raise NotPermitted(f"{where} may not be read or written with the credentials in the environment (such "
                                   "as AWS_ACCESS_KEY_ID): set others, or permit it") from None
            raise ObjectsUnusable(f"{where}: the object store does not do what it is asked ({_cause(e)}); see that it "
                                  "runs and that its address (such as AWS_ENDPOINT) is right, and run the command "
                                  "again: finished work is kept") from None


class Replaced(ObjectsUnusable, FileNotFoundError):
    """An object is no longer the one that was listed."""


class NotPermitted(ObjectsUnusable, PermissionError):
    """The credentials do not suffice. The message says for what."""


def _version(said: Any) -> Version:
    return {name: said[name] for name in ("e_tag", "version") if said[name] is not None}


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _cause(error: Exception) -> str:
    """The first line of what the library says, up to a reply's body, without a query."""
    line = str(error).splitlines()[0].partition("<")[0]
    return re.sub(r"\?\S*", "", line).rstrip(" :")


def _each(work: Callable[[T], R], items: Iterable[T]) -> Sequence[R]:
    """Some at once. The first error is raised."""
    waiting = list(items)
    if len(waiting) < 2:
        return [work(item) for item in waiting]
    with ThreadPoolExecutor(min(AT_ONCE, len(waiting))) as pool:
        return list(pool.map(work, waiting))
