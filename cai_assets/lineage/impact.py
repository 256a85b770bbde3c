"""Forwards: every checkpoint that a principle, a prompt or a row reached, and what making them again would take.

Guarantees: a checkpoint is reached directly by rows it was trained on, or through a checkpoint above it that was; every
record of every version counts, the newest and the earlier ones; rows that were held out are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from cai_assets.lineage.chain import Graph, UnknownRow, gather, graph, matches, reach
from cai_assets.lineage.layout import Layout
from cai_assets.lineage.principles import DIGITS, Measure, measure_of
from cai_assets.lineage.records import Record
from cai_assets.lineage.rounds import round_of
from cai_assets.lineage.snapshots import Snapshots, UnknownVersion
from cai_assets.lineage.store import RowStore
from cai_assets.lineage.trace import CHECKPOINTS, UnknownTarget, every_record, tables_of, training_of, tree

Seconds = Callable[[str], float | None]


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
    measure: Measure
    through: tuple[str, ...]


@dataclass(frozen=True)
class Rebuild:
    """One asset to make again. ``calls``: at most so many model calls; ``seconds``: at this store's rate, if known."""

    asset: str
    partition: str | None
    calls: int
    trainings: int
    seconds: float | None


def parse(layout: Layout, text: str, *, prompt: bool = False) -> Target:
    """A target as typed: a principle id, ``ID@VERSION``, or a row. Raise UnknownTarget, naming known principles."""
    name, at, version = text.partition("@")
    known = {p.id for v in Snapshots(layout).known() for p in Snapshots(layout).load(v).principles}
    if prompt or text.startswith(("i1:", "r1:")):
        return Target(row=text)
    if at:
        try:
            Snapshots(layout).load(version).principle(name)
        except (UnknownVersion, KeyError) as e:
            raise UnknownTarget(str(e.args[0])) from None
    return Target(principle=name, version=version or None) if name in known else Target(row=text)


def impact(layout: Layout, target: Target) -> list[Reached]:
    """Every checkpoint that was reached, oldest first. Raise UnknownRow if no row has that id, StoreCorrupt."""
    by_version: dict[str | None, list[Record]] = {}
    for r in sorted(every_record(layout, CHECKPOINTS), key=lambda r: r.created):
        by_version.setdefault(round_of(r.partition).version if r.partition else None, []).append(r)
    found, known = list[Reached](), False
    for version, made in by_version.items():
        if target.principle and (version is None or target.version not in {None, version}
                                 or not _has(layout, version, target.principle)):
            continue
        reached, hit = _of_version(layout, made, target)
        found, known = [*found, *reached], known or hit
    if target.row and not known:
        raise UnknownRow(f"no principle, prompt or row {target.row!r} in any version: 'cai trace VERSION' lists them")
    return found


def rebuild(
    layout: Layout, reached: Sequence[Reached], *, row_seconds: Seconds, training_seconds: Seconds
) -> list[Rebuild]:
    """At most what it takes to make the newest reached checkpoints, and all that stands on them, without the target.

    Rows above the first checkpoint are reused; below it every call is new, because its policy is.
    """
    newest = {(r.asset, r.partition): r for r in sorted(every_record(layout), key=lambda r: (r.created, r.number))}
    gone = {x.record for x in reached}
    gone |= {r.ref.id for r in newest.values() if (r.asset, r.digest) in {(x.asset, x.key) for x in reached}}
    lines = []
    for r in sorted(newest.values(), key=lambda r: (r.partition or "", r.created)):
        above = tree(layout, r).keys() & gone
        calls = r.reused + r.generated + r.failed
        if not above or r.asset == "comparison":
            continue
        if r.asset in CHECKPOINTS:
            lines.append(Rebuild(r.asset, r.partition, 0, 1, training_seconds(r.asset)))
        elif calls:
            each = row_seconds(r.asset)
            lines.append(Rebuild(r.asset, r.partition, calls, 0, None if each is None else calls * each))
    return lines


def _has(layout: Layout, version: str, principle: str) -> bool:
    return any(p.id == principle for p in Snapshots(layout).load(version).principles)


def _of_version(layout: Layout, made: Sequence[Record], target: Target) -> tuple[list[Reached], bool]:
    trees = {r.ref.id: tree(layout, r) for r in made}
    every = {name: r for t in trees.values() for name, r in t.items()}
    whole = graph(gather(tables_of(layout, every.values()), texts=False), RowStore(layout))
    hits = _hits(layout, whole, target)
    if not len(hits):
        return [], False
    newest = {(r.asset, r.partition): r.ref.id for r in made}
    direct: dict[str, Reached] = {}
    for name, r in every.items():
        if r.asset in CHECKPOINTS:
            direct[name] = _direct(r, training_of(layout, r, every), whole, hits,
                                   newest=name == newest.get((r.asset, r.partition)))
    touched = {name for name, x in direct.items() if x.rows or x.held_out}
    unique: dict[tuple[str, str | None, str], Reached] = {}
    for r in made:
        through = tuple(sorted((trees[r.ref.id].keys() & touched) - {r.ref.id}))
        if through or r.ref.id in touched:
            one = Reached(**{**direct[r.ref.id].__dict__, "through": through})
            unique[one.asset, one.partition, one.key] = one
    return list(unique.values()), True


def _hits(layout: Layout, whole: Graph, target: Target) -> pl.Series:
    """Positions of every row that the target is, or that descends from it."""
    rows = whole.rows
    if target.principle:
        at_once = (pl.col("asset") == "preference_pairs") & (pl.col("principle_ids").list.len().fill_null(0) == 0)
        asked = [v for v in rows["version"].unique().drop_nulls()
                 if any(p.id == target.principle and p.preference for p in Snapshots(layout).load(v).principles)]
        test = pl.col("principle_ids").list.contains(target.principle) | (at_once & pl.col("version").is_in(asked))
        start = rows.select(hit=test.fill_null(False))["hit"]
    else:
        start = (rows["prompt_id"] == target.row).fill_null(False) | matches(rows, str(target.row))
    return reach(start.arg_true(), whole.edges, up=False)


def _direct(record: Record, trained: pl.DataFrame, whole: Graph, hits: pl.Series, *, newest: bool) -> Reached:
    placed = whole.places(trained).select("place", "held_out")
    sized = placed.hstack(whole.rows.select("tokens", "characters")[placed["place"]])
    fit, held_out = sized.filter(~pl.col("held_out")), sized.filter("held_out")
    measure = measure_of(fit)
    column = "tokens" if measure == "completion tokens" else "characters"
    mine = fit.join(hits.alias("place").to_frame(), on="place", how="semi")
    rows, text = (mine.height, fit.height), [int(f[column].sum() or 0) for f in (mine, fit)]
    return Reached(
        asset=record.asset, partition=record.partition, key=record.digest, record=record.ref.id, newest=newest,
        rows=mine.height, of_rows=fit.height, row_share=_share(*rows), text_share=_share(*text),
        held_out=held_out.join(hits.alias("place").to_frame(), on="place", how="semi").height, measure=measure,
        through=())


def _share(part: int, whole: int) -> float:
    return round(part / whole, DIGITS) if whole else 0.0


def as_dict(reached: Sequence[Reached], lines: Sequence[Rebuild]) -> Mapping[str, object]:
    """For JSON."""
    return {"reached": [x.__dict__ for x in reached], "rebuild": [x.__dict__ for x in lines]}
