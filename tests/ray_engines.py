"""Engines for workers of a Ray cluster, which import them by this module's name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import Request, Result
from cai_assets.engines.scripted import Scripted


class Watched(Scripted):
    """Notes in a folder who served what; ``hook`` is called before each request."""

    def __init__(self, folder: Path, hook: Callable[[Path, Request], None] = lambda *_: None) -> None:
        super().__init__()
        self.folder, self.hook = folder, hook

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        for request in requests:
            self.hook(self.folder, request)
            with (self.folder / str(os.getpid())).open("a") as file:
                file.write(f"{request.row_key}\n")
            yield from super().run([request])


def waits_for_another(folder: Path, request: Request) -> None:
    """Nobody goes on before a second worker has come."""
    (folder / str(os.getpid())).touch()
    while len([*folder.iterdir()]) < 2:
        time.sleep(0.05)


def once(folder: Path, request: Request) -> None:
    """The first worker that comes to row 70 is killed, and no other."""
    if request.row_key == "row:70" and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def poison(folder: Path, request: Request) -> None:
    """Two rows kill whoever serves them."""
    if request.row_key in ("row:7", "row:90"):
        os.kill(os.getpid(), signal.SIGKILL)


def dies_once(folder: Path, request: Request) -> None:
    """An engine that is lost in the middle, and works again in another worker."""
    if request.row_key == "row:70" and not (folder / "lost").exists():
        (folder / "lost").touch()
        raise EngineLost("out of memory")


def cannot_load(folder: Path, request: Request) -> None:
    raise EngineLost("no such model here")
