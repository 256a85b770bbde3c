"""One side of a comparison: a version, and the records that speak for it.

Guarantees: a version is spoken for by its newest record of each asset, a record id by exactly what that record was
made from; ``notes`` names whatever else than the constitution differs, and whatever was made from something older.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.assets import COMPARABLE, WITHOUT_VERSION
from cai_assets.constitution.model import Constitution
from cai_assets.evals.refusal import RULE, rule_of
from cai_assets.evals.statistics import Telling
from cai_assets.lineage.targets import find_record
from cai_assets.pipeline.contents import of_record
from cai_assets.plan.causes import setting_changes
from cai_assets.settings.method import CONFIDENCE, ENOUGH
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import Record, RecordMissing, Records
from cai_assets.store.tables import Table
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Snapshots, UnknownVersion

COMPARED = ("revisions", "preference_pairs", "reward_model", "evaluation")


@dataclass(frozen=True)
class Side:
    """``name``: as it was asked for. ``records``: by asset; an asset that was not made is not among them."""

    name: str
    version: str
    constitution: Constitution
    records: Mapping[str, Record]
    layout: Layout

    def table(self, asset: str, *columns: str, where: pl.Expr | None = None) -> pl.DataFrame | None:
        """The table of an asset, if it was made: all columns, or some, and all rows, or those that pass a test."""
        record = self.records.get(asset)
        return Table(self.layout.absolute(record.path)).read(*columns, where=where) if record else None

    def detail(self, asset: str, name: str) -> pl.DataFrame | None:
        """A table that an asset's record names in its details."""
        record = self.records.get(asset)
        path = record.details.get(name) if record else None
        return read_parquet(self.layout.absolute(path)) if path else None

    def checkpoint(self, asset: str) -> Path | None:
        """The folder of a checkpoint."""
        record = self.records.get(asset)
        return self.layout.absolute(record.path) if record else None

    def digest(self, asset: str) -> str | None:
        """Content digest or checkpoint key."""
        record = self.records.get(asset)
        return record.digest if record else None

    def setting(self, asset: str, group: str, name: str, default: Any = None) -> Any:
        """A setting as the asset was made with."""
        record = self.records.get(asset)
        return (record.settings if record else {}).get(group, {}).get(name, default)

    @property
    def refusal_rule(self) -> int | None:
        """The rule that found the evaluation's refusals."""
        record = self.records.get("evaluation")
        return rule_of(record.details) if record else None

    @property
    def telling(self) -> Telling:
        """What it takes to claim a difference: as the evaluation was made with."""
        return Telling(float(self.setting("evaluation", "evaluation", "confidence", CONFIDENCE)),
                       int(self.setting("evaluation", "evaluation", "enough", ENOUGH)))


def side(layout: Layout, name: str) -> Side:
    """The side that a version, a round or a record id names.

    Raise UnknownVersion, UnknownTarget for a record id, or RecordMissing if nothing to compare was made of it.
    """
    chosen = _as_used(layout, name) if "/" in name else _newest(layout, name)
    if not any(asset in chosen.records for asset in COMPARED):
        raise RecordMissing(f"{name}: nothing of it has been materialized that could be compared "
                            f"({', '.join(COMPARED)}): run cai materialize {chosen.version}")
    return chosen


def materializations(s: Side) -> list[Record]:
    """Every record of the version, over all its runs; of its own assets alone."""
    records = Records(s.layout)
    return [record for asset in COMPARABLE if asset not in WITHOUT_VERSION
            for record in records.history(asset, s.version)]


def is_training(record: Record) -> bool:
    """Whether a training ran for it; not if its checkpoint was found."""
    return record.details.get("reused_checkpoint") is False


def _newest(layout: Layout, version: str) -> Side:
    """Assets without a version are those that the version's records read: newer ones say nothing about it."""
    constitution = Snapshots(layout).load(version)
    records, newest = Records(layout), {}
    for asset in (a for a in COMPARABLE if a not in WITHOUT_VERSION):
        try:
            newest[asset] = records.latest(asset, version)
        except RecordMissing:
            continue
    waiting = [ref for record in newest.values() for ref in record.inputs]
    while waiting:
        ref = waiting.pop(0)
        if ref.partition is None and ref.asset not in newest:
            newest[ref.asset] = records.get(ref)
            waiting += newest[ref.asset].inputs
    return Side(version, version, constitution, newest, layout)


def _as_used(layout: Layout, name: str) -> Side:
    """The record and what it was made from; of several records of one asset the nearest."""
    top, records = find_record(layout, name), Records(layout)
    if top.partition is None:
        raise UnknownVersion(f"{name} belongs to no constitution version: name a record of one, such as "
                             "evaluation/VERSION/000001")
    nearest: dict[str, Record] = {}
    waiting = [top]
    while waiting:
        record = waiting.pop(0)
        if record.asset in nearest or record.partition not in {None, top.partition}:
            continue
        nearest[record.asset] = record
        waiting += [records.get(ref) for ref in record.inputs]
    wanted = {asset: record for asset, record in nearest.items() if asset in COMPARABLE}
    return Side(name, top.partition, Snapshots(layout).load(top.partition), wanted, layout)


def notes(before: Side, after: Side) -> list[str]:
    """What a reader must know before believing that the constitution alone made the difference."""
    out = []
    if before.constitution.name != after.constitution.name:
        out.append(f"These are two constitutions, {before.constitution.name} and {after.constitution.name}, not two "
                   "versions of one.")
    elif _place(before) > _place(after):
        out.append(f"{before.version} is the newer one: it was registered after {after.version}.")
    rounds = [round_of(s.version).number for s in (before, after)]
    if rounds[0] != rounds[1]:
        out.append(f"They are of different rounds ({rounds[0]} and {rounds[1]}): they start from different policies.")
    changed = settings_changed(before, after)
    if changed:
        out.append(f"Not only the constitution differs. Settings that were changed: {'; '.join(changed)}.")
    rules = [s.refusal_rule for s in (before, after)]
    if None not in rules and rules[0] != rules[1]:
        out.append(f"Refusals were found by another rule ({rules[0]} and {rules[1]}) and are not compared: materialize "
                   f"evaluation of {before.version if rules[0] != RULE else after.version} again; its responses are "
                   "reused.")
    return out + [note for s in (before, after) for note in older(s)]


def settings_changed(before: Side, after: Side) -> list[str]:
    """What of the settings differs between records of the same assets, in words."""
    return sorted(set(_settings(before, after)))


def _place(s: Side) -> int:
    known = Snapshots(s.layout).known()
    return known.index(s.version) if s.version in known else len(known)


def _settings(before: Side, after: Side) -> Iterator[str]:
    for asset in before.records.keys() & after.records.keys():
        yield from setting_changes(before.records[asset], *of_record(after.records[asset]))


def older(s: Side) -> Iterator[str]:
    """What was made from another record than the newest of a version, one note for each such record."""
    readers: dict[str, list[str]] = {}
    for asset, record in s.records.items():
        for ref in record.inputs:
            now = s.records.get(ref.asset)
            if now and now.partition == ref.partition and now.digest != ref.digest:
                readers.setdefault(ref.asset, []).append(asset)
    for above, assets in readers.items():
        yield (f"The newest {above} of {s.name} was not used for: {', '.join(assets)}. Materialize "
               f"{s.version} again, or compare records by their ids.")


def with_prompt(rows: pl.DataFrame, s: Side) -> pl.DataFrame:
    """Add ``prompt``, the text of the conversation: an id alone could name another text under other settings."""
    mine = pl.col("prompt_id").is_in(rows["prompt_id"].unique().to_list())
    responses = s.table("starting_responses", "prompt_id", "messages", where=mine)
    if responses is None:
        return rows.with_columns(pl.lit(None, pl.String).alias("prompt"))
    turns = pl.col("messages").list
    text = (pl.when(turns.len() == 1).then(turns.first().struct.field("content"))
            .otherwise(turns.eval(pl.format("{}: {}", pl.element().struct.field("role"),
                                            pl.element().struct.field("content"))).list.join("\n")))
    return rows.join(responses.select("prompt_id", text.alias("prompt")), on="prompt_id", how="left")


def same_requests(first: Side, *others: Side) -> list[str]:
    """The principles whose evaluation request is the same in the constitutions of all sides."""
    asked = [{p.id: p.evaluation for p in s.constitution.principles} for s in others]
    return [p.id for p in first.constitution.principles
            if p.evaluation and all(of.get(p.id) == p.evaluation for of in asked)]
