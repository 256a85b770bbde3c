"""Downstream: every checkpoint that a principle, a prompt or a row reached, and what rebuilding them would cost.

Guarantees: a checkpoint is reached directly by rows it was trained on, or through a checkpoint above it that was; every
record of every version counts, the newest and the earlier ones; rows that were held out are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cai_assets.assets import CHECKPOINTS, LABELS
from cai_assets.constitution.model import UnknownPrinciple
from cai_assets.lineage.chain import UnknownRow, matches, naming
from cai_assets.lineage.graph import Graph, Places, descendants, graph
from cai_assets.lineage.principles import DIGITS
from cai_assets.lineage.shapes import read_rows
from cai_assets.lineage.sizes import Counts, SizeUnit, measured, tokens
from cai_assets.lineage.targets import UnknownTarget, every_record
from cai_assets.lineage.trace import tables_of, tree
from cai_assets.lineage.training_rows import training_of
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record
from cai_assets.store.row_store import RowStore
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Snapshots, UnknownVersion

# By asset, number of calls or training runs, and whether it is training: seconds and price, None where unknown.
Cost = Callable[[str, int, bool], Mapping[str, float | None]]


@dataclass(frozen=True)
class Target:
    """What to follow: a ``principle``, of ``version`` or of every one, or a ``row``: a prompt, pair, row id or key."""

    principle: str | None = None
    version: str | None = None
    row: str | None = None


@dataclass(frozen=True)
class Reached:
    """One checkpoint of one version or round. ``rows``: those that trained it, of ``of_rows``; ``text`` in ``measure``.

    ``newest``: what that asset's newest record names. ``through``: reached checkpoints above it, by record id.
    """

    asset: str
    partition: str | None
    key: str
    record: str
    newest: bool
    rows: int
    of_rows: int
    row_share: float
    held_out: int
    text_share: float
    measure: SizeUnit
    through: tuple[str, ...]


@dataclass(frozen=True)
class Rebuild:
    """One asset to rebuild. ``calls``: the most model calls; ``cost``: of these or of the training run."""

    asset: str
    partition: str | None
    calls: int
    trainings: int
    cost: Mapping[str, float | None]


def parse(layout: Layout, text: str, *, prompt: bool = False) -> Target:
    """A target as typed: a principle id, ``ID@VERSION``, or a row. Raise UnknownTarget, naming known principles."""
    name, at, version = text.partition("@")
    principles = {p.id for v in Snapshots(layout).known() for p in Snapshots(layout).load(v).principles}
    if prompt or text.startswith(("i1:", "r1:")):
        return Target(row=text)
    if at:
        try:
            Snapshots(layout).load(version).principle(name)
        except (UnknownVersion, UnknownPrinciple) as e:
            raise UnknownTarget(str(e)) from None
    return Target(principle=name, version=version or None) if name in principles else Target(row=text)


def impact(layout: Layout, target: Target) -> list[Reached]:
    """Every checkpoint that was reached, oldest first. Raise UnknownRow if no row has that id, StoreCorrupt."""
    records = {r.ref.id: r for r in every_record(layout)}
    by_version: dict[str | None, list[Record]] = {}
    for r in sorted(records.values(), key=lambda r: r.created):
        if r.asset in CHECKPOINTS:
            by_version.setdefault(round_of(r.partition).version if r.partition else None, []).append(r)
    every, named = list[Reached](), False
    for version, checkpoints in by_version.items():
        if target.principle and (version is None or target.version not in {None, version}
                                 or not _has(layout, version, target.principle)):
            continue
        reached, hit = _of_version(layout, checkpoints, records, target)
        every, named = [*every, *reached], named or hit
    if target.row and not named:
        raise UnknownRow(target.row)
    return every


def rebuild(layout: Layout, reached: Sequence[Reached], cost: Cost) -> list[Rebuild]:
    """An upper bound on rebuilding the newest reached checkpoints, and everything downstream, without the target.

    Rows above the first checkpoint are reused; below it every call is new, because its policy is.
    """
    records = {r.ref.id: r for r in every_record(layout)}
    newest = {(r.asset, r.partition): r for r in sorted(records.values(), key=lambda r: (r.created, r.number))}
    gone = {x.record for x in reached}
    gone |= {r.ref.id for r in newest.values() if (r.asset, r.digest) in {(x.asset, x.key) for x in reached}}
    lines = []
    for r in sorted(newest.values(), key=lambda r: (r.partition or "", r.created)):
        above = tree(layout, r, records).keys() & gone
        calls = r.reused + r.generated + r.failed
        if not above:
            continue
        if r.asset in CHECKPOINTS:
            lines.append(Rebuild(r.asset, r.partition, 0, 1, cost(r.asset, 1, True)))
        elif calls:
            lines.append(Rebuild(r.asset, r.partition, calls, 0, cost(r.asset, calls, False)))
    return lines


def _has(layout: Layout, version: str, principle: str) -> bool:
    return any(p.id == principle for p in Snapshots(layout).load(version).principles)


def _of_version(
    layout: Layout, checkpoints: Sequence[Record], records: Mapping[str, Record], target: Target
) -> tuple[list[Reached], bool]:
    trees = {r.ref.id: tree(layout, r, records) for r in checkpoints}
    every = {name: r for t in trees.values() for name, r in t.items()}
    whole = graph(tables_of(layout, every.values()))
    hits = _hits(layout, whole, target)
    if target.row and not hits.any():
        return [], False
    newest = {(r.asset, r.partition): r.ref.id for r in checkpoints}
    trained = {name: training_of(layout, r, every) for name, r in every.items() if r.asset in CHECKPOINTS}
    sizes = _tokens(layout, whole, trained.values())
    direct = {name: _direct(every[name], frame, whole, sizes, hits, target.principle,
                            newest=name == newest.get((every[name].asset, every[name].partition)))
              for name, frame in trained.items()}
    touched = {name for name, x in direct.items() if x.rows or x.held_out}
    unique: dict[tuple[str, str | None, str], Reached] = {}
    for r in checkpoints:
        through = tuple(sorted((trees[r.ref.id].keys() & touched) - {r.ref.id}))
        if through or r.ref.id in touched:
            one = Reached(**{**direct[r.ref.id].__dict__, "through": through})
            unique[one.asset, one.partition, one.key] = one
    return list(unique.values()), True


def _hits(layout: Layout, whole: Graph, target: Target) -> npt.NDArray[np.bool_]:
    """By place: whether a row is the target, or descends from it."""
    start = _shaped(layout, whole, target.principle) if target.principle else _named(whole, str(target.row))
    hit = np.zeros(whole.rows.height, dtype=bool)
    hit[descendants(start, whole.parents)] = True
    return hit


def _shaped(layout: Layout, whole: Graph, principle: str) -> Places:
    """Rows that a principle shaped by itself, and labels that answer every principle in one question."""
    drawn = whole.drawn()
    asking = [i for i, part in enumerate(whole.parts) if part.table.asset == LABELS and part.table.version and any(
        p.id == principle and p.preference for p in Snapshots(layout).load(part.table.version).principles)]
    at_once = np.isin(whole.rows["part"].to_numpy(), asking)
    at_once[drawn["place"].to_numpy()] = False
    places = drawn.filter(pl.col("principle") == principle)["place"].to_numpy()
    shaped: Places = np.concatenate([places, np.flatnonzero(at_once)]).astype(np.int32)
    return shaped


def _named(whole: Graph, target: str) -> Places:
    """Rows that a target names: those of a prompt or pair, or the start of a row id or row key."""
    ids = [pl.Series("row_id", [], dtype=pl.String)]
    for part in whole.parts:
        at = matches(read_rows(part, only=naming(target)), target).arg_true()
        ids.append(read_rows(part, at, ["row_id"])["row_id"])
    return whole.places(pl.concat(ids))


def _tokens(layout: Layout, whole: Graph, trained: Iterable[pl.DataFrame]) -> Counts:
    """Completion tokens of every row that was trained on, by place; -1 of the others."""
    used = np.unique(np.concatenate([np.zeros(0, np.int32), *(whole.places(f["row_id"]) for f in trained)]))
    used, known = used[used >= 0], np.full(whole.rows.height, -1, dtype=np.int64)
    known[used] = tokens(whole, RowStore(layout), used)
    return known


def _direct(
    record: Record, trained: pl.DataFrame, whole: Graph, counts: Counts, hits: npt.NDArray[np.bool_],
    principle: str | None, *, newest: bool,
) -> Reached:
    places, held_out = whole.places(trained["row_id"]), trained["held_out"].to_numpy()
    mine = hits[places] if len(hits) else np.zeros(0, dtype=bool)
    if principle:
        mine = mine | (trained["graded_by"] == principle).fill_null(False).to_numpy()
    fit = (places >= 0) & ~held_out
    used, at = np.unique(places[fit], return_inverse=True)
    measure, size = measured(whole, used, counts[used])
    text, hit = size[at], mine[fit]
    return Reached(
        asset=record.asset, partition=record.partition, key=record.digest, record=record.ref.id, newest=newest,
        rows=int(hit.sum()), of_rows=int(fit.sum()), row_share=_share(int(hit.sum()), int(fit.sum())),
        text_share=_share(int(text[hit].sum()), int(text.sum())), measure=measure, through=(),
        held_out=int((mine & (places >= 0) & held_out).sum()))


def _share(part: int, whole: int) -> float:
    return round(part / whole, DIGITS) if whole else 0.0


def as_dict(reached: Sequence[Reached], lines: Sequence[Rebuild]) -> Mapping[str, object]:
    """For JSON."""
    return {"reached": [x.__dict__ for x in reached],
            "rebuild": [{**x.__dict__, "cost": dict(x.cost)} for x in lines]}
