"""Locks between machines: an object that its holder renews, and that another may take once nobody renews it.

No clocks are compared: whoever waits measures by its own clock how long the object has stayed as it is. A holder that
was paused for longer than ``EXPIRES`` may find its lease taken; so what is done under one must be safe if two do it.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from cai_assets.errors import CaiError
from cai_assets.store import this_run

EXPIRES = 30.0  # seconds
RENEWED = 5.0  # seconds

Version = dict[str, Any]
"""What identifies a content of an object, as the library names it."""


class Objects(Protocol):
    """What a lease asks for."""

    def create(self, name: str, data: bytes) -> Version | None:
        """Put an object that is not there; None if it is."""

    def replace(self, name: str, data: bytes, version: Version) -> Version | None:
        """Put an object in place of that version; None if it is another one by now, or gone."""

    def version(self, name: str) -> Version | None:
        """The version of an object; None if it is not there."""

    def delete(self, *names: str) -> None:
        """Remove objects."""


@contextmanager
def leased(objects: Objects, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold the lease of that name; whether it is held, which without ``wait`` it may not be."""
    owner = f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex}"
    version = _taken(objects, name, owner, wait=wait)
    if version is None:
        yield False
        return
    renewal = _Renewal(objects, name, owner, version)
    renewal.start()
    try:
        yield True
    finally:
        renewal.end()


def _taken(objects: Objects, name: str, owner: str, *, wait: bool) -> Version | None:
    """The version of the lease that this process now holds; None if another holds it and nobody waits."""
    seen, since = None, time.monotonic()
    while True:
        if (created := objects.create(name, _text(owner, 0))) is not None:
            return created
        if (now := objects.version(name)) is None:
            continue
        if now != seen:
            if seen is not None and not wait:
                return None
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > EXPIRES and (replaced := objects.replace(name, _text(owner, 0), now)):
            return replaced
        time.sleep(RENEWED / 5)


class _Renewal(threading.Thread):
    """Renews a lease until it ends."""

    def __init__(self, objects: Objects, name: str, owner: str, version: Version) -> None:
        super().__init__(name=f"lease of {name}", daemon=True)
        self._objects, self._lease, self._owner = objects, name, owner
        self._version: Version | None = version
        self._over = threading.Event()

    def run(self) -> None:
        times = 0
        while self._version is not None and not self._over.wait(RENEWED):
            times += 1
            try:
                self._version = self._objects.replace(self._lease, _text(self._owner, times), self._version)
            except CaiError:  # the store does not answer for the moment: tried again
                continue
        if self._version is None:
            this_run.tell(f"the lock {self._lease} was taken by another process while this one was paused or could not "
                          "reach the store: both do the same work, and one result is kept")

    def end(self) -> None:
        """Stop, and give the lease back if it is still ours."""
        self._over.set()
        self.join()
        with suppress(CaiError):  # a lease that cannot be given back expires
            if self._version is not None and self._objects.version(self._lease) == self._version:
                self._objects.delete(self._lease)


def _text(owner: str, times: int) -> bytes:
    return json.dumps({"owner": owner, "renewed": times}).encode()
