"""Engines for workers of a Ray cluster, which import them by this module's name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import Engine, ModelIdentity, Request, Result
from cai_assets.engines.scripted import Scripted


class Watched:
    """An engine that notes in a folder who served what; ``hook`` is called before each request."""

    flows = True

    def __init__(self, folder: Path, hook: Callable[[Path, Request], None] = lambda *_: None,
                 make: Callable[[], Engine] = Scripted) -> None:
        self.engine, self.folder, self.hook = make(), folder, hook

    @property
    def identity(self) -> ModelIdentity:
        return self.engine.identity

    def close(self) -> None:
        self.engine.close()

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        for request in requests:
            self.hook(self.folder, request)
            with (self.folder / str(os.getpid())).open("a") as file:
                file.write(f"{request.row_key}\n")
            yield from self.engine.run([request])


def waits_for(workers: int, folder: Path, request: Request) -> None:
    """Nobody goes on before so many have come."""
    (folder / str(os.getpid())).touch()
    while len([*folder.iterdir()]) < workers:
        time.sleep(0.05)


def once(folder: Path, request: Request) -> None:
    """The first worker that comes to row 70 is killed, and no other."""
    if request.row_key == "row:70":
        _kill_once(folder)


def in_the_middle(folder: Path, request: Request) -> None:
    """A worker is killed after 20 rows, and no other."""
    mine = folder / str(os.getpid())
    if mine.exists() and len(mine.read_text().splitlines()) == 20:
        _kill_once(folder)


def _kill_once(folder: Path) -> None:
    with suppress(FileExistsError):
        (folder / "killed").touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


def slow(workers: int, folder: Path, request: Request) -> None:
    """So many begin together, and each has work for a while."""
    waits_for(workers, folder, request)
    time.sleep(0.02)


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
