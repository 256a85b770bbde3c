"""Row keys in order, each with its place: what says in microseconds whether a key may be stored, and where.

16 bytes a key, in a few runs of which each is at least twice as long as the next, so that taking in more costs no more
than their share (a log-structured merge, O'Neil et al. 1996). Long runs lie in files of their own that the system maps,
and are merged one range of keys after the other: so what they take of this process's own memory has a bound.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Digits = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]
MAPPED = 1 << 24  # keys, from which on a run lies in a file
RANGES = 64  # in which long runs are merged


class Run(NamedTuple):
    """``digits``: of keys, in order; ``places`` (n, 2): shard and position, of equal keys the earliest first."""

    digits: Digits
    places: Places


def run_of(digits: Digits, places: Places) -> Run:
    order = digits.argsort(kind="stable")
    return Run(digits[order], places[order])


def with_run(runs: tuple[Run, ...], new: Run) -> tuple[Run, ...]:
    """The runs, oldest and longest first, and one of later keys; those that are not twice as long as the next are
    merged."""
    every = [*runs, new] if len(new.digits) else [*runs]
    while len(every) > 1 and len(every[-2].digits) < 2 * len(every[-1].digits):
        later = every.pop()
        every[-1] = _merged(every[-1], later)
    return tuple(every)


def find(runs: tuple[Run, ...], digits: Digits) -> Iterator[tuple[int, int, int]]:
    """The number of each of ``digits`` that is there, with shard and position; the earliest first."""
    for run in runs:
        first, end = (np.searchsorted(run.digits, digits, side) for side in ("left", "right"))
        for i in np.flatnonzero(end > first).tolist():
            yield from ((i, *place) for place in run.places[first[i]:end[i]].tolist())


def _merged(earlier: Run, later: Run) -> Run:
    total = len(earlier.digits) + len(later.digits)
    if total < MAPPED:
        return run_of(np.concatenate((earlier.digits, later.digits)), np.concatenate((earlier.places, later.places)))
    merged = Run(_mapped(total * 8).view(np.uint64), _mapped(total * 8).view(np.uint32).reshape(total, 2))
    cuts = [_cuts(run.digits) for run in (earlier, later)]
    at = 0
    for number in range(RANGES):
        parts = [Run(run.digits[cut[number]:cut[number + 1]], run.places[cut[number]:cut[number + 1]])
                 for run, cut in zip((earlier, later), cuts, strict=True)]
        part = run_of(*(np.concatenate(both) for both in zip(*parts, strict=True)))
        end = at + len(part.digits)
        merged.digits[at:end], merged.places[at:end] = part
        at = end
    return merged


def _cuts(digits: Digits) -> list[int]:
    """Where each of RANGES equal ranges of keys begins, and the last one ends."""
    firsts = np.arange(1, RANGES, dtype=np.uint64) * np.uint64(2**64 // RANGES)
    return [0, *np.searchsorted(digits, firsts).tolist(), len(digits)]


def _mapped(size: int) -> npt.NDArray[np.uint8]:
    """Bytes in a file without a name, which goes with them; in memory, where no disk has room for it."""
    with tempfile.TemporaryFile(prefix="cai-keys-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a page without a place would kill the process
        except (OSError, AttributeError):  # no room, or a system that cannot reserve any
            return np.empty(size, dtype=np.uint8)
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=(size,))
