"""Rows of files, mixed by share into what is trained on.

Guarantees: which rows of a file take part is decided by a hash of the seed and the row's content, so that raising a
share only adds rows and the order of a file does not count; no row is repeated, and a file that has too few says so;
no row is mixed in that is too near to what policies are measured by. Rows that cannot be used are counted with their
reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw, RowReader
from cai_assets.settings.base import Source
from cai_assets.settings.columns import Columns
from cai_assets.steps.reasons import tally
from cai_assets.store.canonical import tagged_hash

CHUNK = 1000
GENERAL = "general"
T = TypeVar("T")


@dataclass(frozen=True)
class Form(Generic[T]):
    """What rows of files are read as. ``columns``: those that mean something. ``usable`` gives a row, or raises
    RowFault with the reason why it cannot be trained on. ``content``: what tells it from others, with the tag of its
    hash. ``near``: which of some rows, by place, are too near to what policies are measured by.
    """

    columns: frozenset[str]
    usable: Callable[[Raw, Columns], T]
    content: Callable[[T], tuple[str, object]]
    near: Callable[[Sequence[T]], Collection[int]]


class Drawn(NamedTuple, Generic[T]):
    """A row. ``rank``: its place in the draw; ``place``: file and line."""

    rank: str
    name: str
    place: str
    row: T


@dataclass(frozen=True)
class Report:
    """The result for one file: ``rows`` of the ``wanted`` are mixed in, and are the share ``reached`` of the whole."""

    file: str
    share: float
    reached: float
    rows: int
    wanted: int
    read: int
    usable: int
    duplicates: int
    near_evaluation: int
    rejected: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """Set if the file has too few rows."""
        if self.rows == self.wanted:
            return None
        return (f"{self.file} has {self.rows} usable rows, which are {self.reached:.1%} of the whole and not "
                f"{self.share:.1%}: no row is repeated; give a larger file or a smaller share")


class Amount(NamedTuple):
    """How many rows to take, and how many the share asks for: more, if there are too few."""

    take: int
    wanted: int


@dataclass
class Pool(Generic[T]):
    """The usable rows of one file, in the order in which they are drawn."""

    source: Source
    rows: list[Drawn[T]] = field(default_factory=list)
    read: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    near: int = 0
    notes: tuple[str, ...] = ()


class Shares(NamedTuple, Generic[T]):
    """The rows of all files, and the result for each."""

    rows: list[Drawn[T]]
    reports: tuple[Report, ...]


def shares(form: Form[T], sources: Sequence[Source], own: int, *, seed: int) -> Shares[T]:
    """Rows of each source that make it its share of the whole, ``own`` other rows included.

    Raise DataError for a file that cannot be read at all.
    """
    seen: set[str] = set()
    pools = [_pool(form, source, seen, seed) for source in sources]
    most = own / (1 - sum(source.share for source in sources))
    for pool in pools:
        _keep_apart(form, pool, round(pool.source.share * most))
    taken = amounts(own, [(p.source.share, len(p.rows)) for p in pools])
    whole = own + sum(n.take for n in taken)
    reports = tuple(_report(p, n, whole) for p, n in zip(pools, taken, strict=True))
    return Shares([row for p, n in zip(pools, taken, strict=True) for row in p.rows[: n.take]], reports)


def amounts(own: int, sources: Sequence[tuple[float, int]]) -> list[Amount]:
    """What to take of each (share, rows it has), so that each is its share of the whole or is used up."""
    fixed, free = float(own), sum(share for share, _ in sources)
    whole = fixed / (1 - free)
    for share, has in sorted(sources, key=lambda s: s[1] / s[0]):  # the one that is used up first comes first
        if has >= share * whole:
            break
        fixed, free = fixed + has, free - share
        whole = fixed / (1 - free)
    return [Amount(min(has, round(share * whole)), round(share * whole)) for share, has in sources]


def _pool(form: Form[T], source: Source, seen: set[str], seed: int) -> Pool[T]:
    pool: Pool[T] = Pool(source)
    reader = RowReader([source.path], set(form.columns), source.columns)
    for raw in reader:
        pool.read += 1
        try:
            row = form.usable(raw, source.columns)
        except RowFault as fault:
            pool.rejected[str(fault)] += 1
            continue
        name = f"{GENERAL}-" + tagged_hash(*form.content(row)).rpartition(":")[2][:16]
        if name in seen:
            pool.duplicates += 1
            continue
        seen.add(name)
        pool.rows.append(Drawn(tagged_hash("mix", [seed, name]), name, f"{raw.source}:{raw.line}", row))
    pool.rows.sort(key=lambda r: r.rank)
    pool.notes = tuple(reader.notes)
    return pool


def _keep_apart(form: Form[T], pool: Pool[T], wanted: int) -> None:
    """Drop rows near a held-out text, as far down the draw as ``wanted`` rows need."""
    kept: list[Drawn[T]] = []
    for start in range(0, len(pool.rows), CHUNK):
        if len(kept) >= wanted:
            kept += pool.rows[start:]
            break
        chunk = pool.rows[start : start + CHUNK]
        bad = form.near([drawn.row for drawn in chunk])
        pool.near += len(bad)
        kept += [drawn for i, drawn in enumerate(chunk) if i not in bad]
    pool.rows = kept


def _report(pool: Pool[T], amount: Amount, whole: int) -> Report:
    return Report(file=pool.source.path.name, share=pool.source.share, reached=amount.take / max(whole, 1),
                  rows=amount.take, wanted=amount.wanted, read=pool.read, usable=len(pool.rows),
                  duplicates=pool.duplicates, near_evaluation=pool.near, rejected=tally(pool.rejected),
                  notes=pool.notes)
