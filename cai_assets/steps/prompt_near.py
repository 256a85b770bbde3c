"""Find prompts that are nearly equal, without comparing every pair of a large set.

Two texts are near when their Indel similarity is at least 85 of 100 (rapidfuzz ``ratio``: 200 * LCS / total
length), as they stand or with their words sorted. In a small set every pair is compared, so the answer is exact.
In a large one only pairs that share a bucket are: MinHash over character n-grams (Broder 1997), 32 bands of 4
hashes, which finds a pair of n-gram Jaccard similarity J with probability 1 - (1 - J^4)^32: 0.87 at J = 0.5,
0.9998 at J = 0.7. Texts must be normalized and not empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz, process

NEAR = 85.0
EXACT_UP_TO, EXACT_CHARS = 4000, 500_000
BANDS, PER_BAND = 32, 4
CHUNK = 256
FEW = 16  # pairs, for which the calls of a matrix cost more than the comparisons
CHARS_AT_ONCE = 50_000

Indices = npt.NDArray[np.intp]
Hashes = npt.NDArray[np.uint64]


def repeats(texts: Sequence[str]) -> set[int]:
    """The places of texts that are nearly the same as an earlier one that is kept."""
    return Near(texts).repeats(np.arange(len(texts)))


def near_to(others: Sequence[str], texts: Sequence[str]) -> set[int]:
    """The places of ``texts`` that are nearly the same as one of ``others``."""
    known = np.arange(len(others) + len(texts)) < len(others)
    return {at - len(others) for at in Near([*others, *texts]).across(known)}


class Near:
    """Near duplicates among ``texts``; indices below are positions in it."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._by_words: dict[int, str] = {}
        self._bands = list(_bands(texts))

    def across(self, held_out: npt.NDArray[np.bool_]) -> dict[int, int]:
        """Map each text that is not held out but near to one that is, to that one."""
        hits: dict[int, int] = {}
        for block in self._blocks():
            queries, others = block[held_out[block]], block[~held_out[block]]
            for start in range(0, len(queries), CHUNK):
                others = others[[i not in hits for i in others.tolist()]]
                if not len(others):
                    break
                chunk = queries[start : start + CHUNK]
                near = self._near(chunk, others)
                is_near = near.any(axis=0)
                first = chunk[near[:, is_near].argmax(axis=0)]
                hits.update(zip(others[is_near].tolist(), first.tolist(), strict=True))
        return hits

    def repeats(self, among: Indices) -> set[int]:
        """Those of ``among`` that a pass in order would drop, each near to an earlier one that it keeps."""
        taking_part = np.zeros(len(self._texts), dtype=bool)
        taking_part[among] = True
        for block in self._blocks():
            rest = block[taking_part[block]]
            while len(rest) > 1:
                head, near = rest[:CHUNK], self._near(rest[:CHUNK], rest)
                dropped = np.zeros(len(rest), dtype=bool)
                for i in range(len(head)):
                    if not dropped[i]:
                        dropped[i + 1 :] |= near[i, i + 1 :]
                taking_part[rest[dropped]] = False
                rest = rest[len(head) :][~dropped[len(head) :]]
        return set(among[~taking_part[among]].tolist())

    def _near(self, rows: Indices, columns: Indices) -> npt.NDArray[np.bool_]:
        near = np.zeros((len(rows), len(columns)), dtype=bool)
        for form in (self._texts.__getitem__, self._words_of):
            a, b = ([form(i) for i in positions.tolist()] for positions in (rows, columns))
            if near.size > FEW:
                near |= process.cdist(a, b, scorer=fuzz.ratio, score_cutoff=NEAR, dtype=np.uint8) > 0
            else:
                near |= np.array([[fuzz.ratio(x, y, score_cutoff=NEAR) > 0 for y in b] for x in a])
        return near

    def _words_of(self, position: int) -> str:
        """A text with its words sorted."""
        if position not in self._by_words:
            self._by_words[position] = " ".join(sorted(self._texts[position].split()))
        return self._by_words[position]

    def _blocks(self) -> Iterator[Indices]:
        """Sets of two or more positions, in ascending order, that hold (nearly) every near pair."""
        for positions, ends in self._bands:
            start = 0
            for end in ends.tolist():
                yield positions[start:end]
                start = end


def _bands(texts: Sequence[str]) -> Iterator[tuple[Indices, Indices]]:
    """Blocks one after the other, and where each of them ends: millions of small arrays would take the most memory."""
    lengths = np.array([len(t) for t in texts])
    if len(texts) <= EXACT_UP_TO and lengths.sum() <= EXACT_CHARS:
        yield np.arange(len(texts)), np.array([len(texts)])
        return
    # Short texts share few long n-grams after one edit; any two long texts share most short ones. Near texts
    # differ in length by 1 : 0.74 at most, so the overlap puts each near pair into one class together.
    yield from _buckets(texts, np.flatnonzero(lengths <= 400), size=3)
    yield from _buckets(texts, np.flatnonzero(lengths >= 290), size=8)


def _buckets(texts: Sequence[str], members: Indices, size: int) -> Iterator[tuple[Indices, Indices]]:
    if len(members) < 2:
        return
    for key in _keys([texts[i] for i in members], size):
        order = key.argsort(kind="stable")
        edges = np.flatnonzero(np.diff(key[order], prepend=key[order[:1]] + 1, append=key[order[-1:]] + 1))
        sizes = np.diff(edges)
        shared = sizes > 1
        yield members[order[np.repeat(shared, sizes)]], np.cumsum(sizes[shared])


def _keys(texts: Sequence[str], size: int) -> npt.NDArray[np.uint64]:
    """What texts of one bucket share: for each band a key of each text, made of its MinHash. Texts are hashed many at a
    time: one by one, the calls cost the most."""
    out = np.zeros((BANDS, len(texts)), dtype=np.uint64)
    lengths = np.array([len(t) + 2 for t in texts])  # with a space at both ends
    groups = np.cumsum(lengths) // CHARS_AT_ONCE
    for start, end in zip(*_runs(groups), strict=True):
        joined = "".join([f" {t} " for t in texts[start:end]])
        codes = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(codes, size)
        ends = np.cumsum(lengths[start:end])
        inside = np.ones(len(windows), dtype=bool)
        for back in range(1, size):  # windows that reach into the next text
            inside[ends[:-1] - back] = False
        grams = _mix((windows * _FACTORS[:size]).sum(axis=1, dtype=np.uint64)[inside])
        first = np.concatenate(([0], np.cumsum(lengths[start:end] - size + 1)[:-1]))
        for column, factor in enumerate(_FACTORS):
            key = out[column // PER_BAND, start:end]
            key[:] = _mix(key ^ np.minimum.reduceat((grams * factor) >> np.uint64(32), first))
    return out


def _runs(groups: Indices) -> tuple[Indices, Indices]:
    """Where each run of equal numbers starts and ends."""
    edges = np.flatnonzero(np.diff(groups)) + 1
    return np.concatenate(([0], edges)), np.concatenate((edges, [len(groups)]))


def _mix(x: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele et al. 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_FACTORS: Hashes = _mix(np.arange(1, BANDS * PER_BAND + 1, dtype=np.uint64)) | np.uint64(1)
