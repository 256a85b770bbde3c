"""What it costs to check weights by their digests before they are used: ``python benchmarks/digests.py [--mb N]``.

Files of random bytes are read plainly and then as a run reads a model's files, turn by turn, each time from the disk:
the system is asked to forget them first, which it does for a file that is written out. Then what a run takes that has
read them already, and what a plan takes, which looks at their dates.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cai_assets.store import this_run
from cai_assets.store.file_digests import remembered
from cai_assets.store.layout import Layout

BLOCK = 2**20


def written(folder: Path, number: int, megabytes: int) -> Path:
    path = folder / f"model-{number:05d}.safetensors"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(10**6))
        file.flush()
        os.fsync(file.fileno())
    return path


def forget(files: Sequence[Path]) -> None:
    """Have the system read them from the disk again."""
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_plainly(files: Sequence[Path]) -> None:
    block = bytearray(BLOCK)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3)
    parser.add_argument("--mb", type=int, default=1000, help="of each file")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--where", type=Path, help="a folder on the disk that is measured")
    parser.add_argument("--smallest", action="store_true", help="as the tests run it")
    arguments = parser.parse_args()
    megabytes, turns = (2, 1) if arguments.smallest else (arguments.mb, arguments.turns)
    with tempfile.TemporaryDirectory(dir=arguments.where) as folder:
        layout = Layout(Path(folder))
        files = [written(layout.folder("models"), i, megabytes) for i in range(arguments.files)]
        report(layout, files, turns, megabytes * len(files))


def report(layout: Layout, files: Sequence[Path], turns: int, megabytes: int) -> None:
    def digest(*, read: bool) -> None:
        with remembered(layout) as digests:
            digests.take(files, read=read)

    plain, ours = list[float](), list[float]()
    for _ in range(turns):
        forget(files)
        plain.append(seconds(lambda: read_plainly(files)))
        forget(files)
        this_run.begin()
        ours.append(seconds(lambda: digest(read=True)))
    again = seconds(lambda: digest(read=True))
    this_run.begin()
    looked = seconds(lambda: digest(read=False))
    for name, taken in (("read plainly", statistics.median(plain)), ("checked by digest", statistics.median(ours))):
        print(f"{name:<20} {megabytes / taken:8.0f} MB/s")
    print(f"again in the same run {again * 1000:.1f} ms · looked at by a plan {looked * 1000:.1f} ms")
    ratio = statistics.median(o / p for o, p in zip(ours, plain, strict=True))
    print(f"ratio to plain reading {ratio:.2f} ({len(files)} files, {megabytes} MB, medians of {turns} turns)")


if __name__ == "__main__":
    main()
