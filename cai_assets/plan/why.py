"""Why a row or a checkpoint of one version is not the one of another: the fields that differ, by name.

What a version has not made yet is taken from its plan, which keys what it can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from cai_assets.assets import ASSETS, CALLED, CHECKPOINTS, call_steps, partition_of
from cai_assets.engines.keys import row_payload
from cai_assets.engines.protocol import Call, ModelIdentity
from cai_assets.errors import CaiError
from cai_assets.pipeline.contents import comparable, of_record
from cai_assets.pipeline.project import Project
from cai_assets.plan.dry import DryCompleter
from cai_assets.plan.plan import Planner
from cai_assets.settings.address import shown
from cai_assets.steps.complete import Row, Step
from cai_assets.store.records import Record, RecordMissing

PARTS = ("base", "data", "settings", "seed", "code_version", "reward_model", "labeller", "supervised", "rewards",
         "reward_package")
EXCERPT = 300


class CannotExplain(CaiError, LookupError):
    """Two versions cannot be compared there. The message says why, and what can be asked instead."""


@dataclass(frozen=True)
class Difference:
    """One field of what decides an output, before and now, as text cut to what differs."""

    field: str
    before: str
    now: str


def why_row(project: Project, asset: str, version: str, row: str, *, against: str) -> list[Difference]:
    """Fields that differ between one row of two versions. ``row``: prompt id, 'PROMPT:ROUND', or pair id.

    Raise CannotExplain if the asset has no such row, if the row waits for a text that does not exist yet, or if the
    version compared with was not materialized.
    """
    if asset not in CALLED:
        raise CannotExplain(f"rows of {asset} cannot be compared one by one; use one of {', '.join(CALLED)}")
    before = _payload(project, asset, _table(project, asset, against), row, f"{asset} for {against}", {})
    planned: dict[str, str] = {}
    table, of = _table_or_plan(project, asset, version, planned)
    return differences(before, _payload(project, asset, table, row, of, planned))


def why_asset(project: Project, asset: str, version: str, *, against: str) -> list[Difference]:
    """Why the asset as a whole differs: parts of a checkpoint's key; of a table the settings, inputs and rows.

    Where the training rows differ, also the inputs whose content does: 'input sl_dataset', say, to go on with. Raise
    CannotExplain if the versions cannot be compared.
    """
    old = _record(project, asset, against)
    try:
        new = _record(project, asset, version)
    except RecordMissing:
        return _why_planned(project, asset, version, old)
    if asset not in CHECKPOINTS:
        return _why_table(project, old, new)
    before, now = (_parts(project, record) for record in (old, new))
    found = _different_parts(before, now)
    return found if before["data"] == now["data"] else [*found, *_changed_inputs(old, new)]


class _Remembering(DryCompleter):
    """Knows the payload of every call that it missed."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.payloads: dict[str, str] = {}

    def unasked(self, step: Step, key: str, call: Call) -> Row:
        self.payloads[key] = row_payload(step.name, step.version, call, self.engine.identity, self.seed)
        return super().unasked(step, key, call)


class _Asked(Planner):
    """A plan that can be asked about its rows."""

    def __init__(self, project: Project, version: str) -> None:
        super().__init__(project, version, None)
        self.asked: list[_Remembering] = []
        self.run()

    def dry(self, identity: ModelIdentity) -> DryCompleter:
        self.asked.append(_Remembering(identity, self.project.store, seed=self.settings.seed))
        return self.asked[-1]


def _table_or_plan(project: Project, asset: str, version: str, planned: dict[str, str]) -> tuple[pl.DataFrame, str]:
    """The table of a version, or of its plan; then ``planned`` gets the payloads of what is missing."""
    try:
        return _table(project, asset, version), f"{asset} for {version}"
    except RecordMissing:
        plan = _Asked(project, version)
        for completer in plan.asked:
            planned |= completer.payloads
        return plan.made.tables[asset].read(), f"{asset} in the plan of {version}"


def _why_planned(project: Project, asset: str, version: str, old: Record) -> list[Difference]:
    if asset not in CHECKPOINTS:
        raise CannotExplain(f"{asset} for {version} is not materialized yet: 'cai plan {version}' shows what its rows "
                            "depend on; to ask about one row, name it")
    plan = _Asked(project, version)
    if asset not in plan.parts:
        causes = "; ".join(next(x for x in plan.lines if x.asset == asset).causes)
        raise CannotExplain(f"the key of {asset} for {version} is not known until its inputs exist: {causes}")
    return _different_parts(_parts(project, old), plan.parts[asset])


def _why_table(project: Project, old: Record, new: Record) -> list[Difference]:
    before, now = comparable(of_record(old), of_record(new))
    settings = differences({**before, "seed": old.details.get("seed")}, {**now, "seed": new.details.get("seed")},
                           "settings")
    return [*settings, *_changed_inputs(old, new), *(_changed_rows(project, old, new) if old.asset in CALLED else [])]


def _changed_rows(project: Project, old: Record, new: Record) -> list[Difference]:
    """How many rows have another key, and the first of them: what to ask about next."""
    before, now = (project.records.table(record) for record in (old, new))
    name, key = ASSETS[new.asset].row, ASSETS[new.asset].key
    ids = [name, "round"] if "round" in now.columns else [name]
    other = now.select(*ids, key).join(before.select(*ids, key), on=[*ids, key], how="anti")
    if not other.height:
        return []
    first = ":".join(str(part) for part in other.select(ids).row(0))
    return [Difference("rows", str(before.height), f"{now.height}, {other.height} of them with a different key; the "
                                                   f"first is {first}")]


def _table(project: Project, asset: str, version: str) -> pl.DataFrame:
    return project.records.table(_record(project, asset, version))


def _parts(project: Project, record: Record) -> dict[str, Any]:
    checkpoint = project.checkpoints.find(record.asset, record.digest)
    if checkpoint is None:
        raise CannotExplain(f"the checkpoint {record.digest} of {record.asset} for "
                            f"{record.partition or 'all versions'} is gone")
    return {name: checkpoint.record[name] for name in PARTS if name in checkpoint.record}


def _different_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Of what both say: checkpoints of earlier releases do not name their labeller or supervised rows."""
    both = [name for name in PARTS if name in before and name in now]
    return differences({name: before[name] for name in both}, {name: now[name] for name in both})


def _changed_inputs(before: Record, now: Record) -> list[Difference]:
    old = {ref.asset: ref for ref in before.inputs}
    return [Difference(f"input {ref.asset}", old[ref.asset].id, ref.id) for ref in now.inputs
            if ref.asset in old and old[ref.asset].digest != ref.digest]


def differences(before: Any, now: Any, path: str = "") -> list[Difference]:
    """Fields that differ, in order."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [*before, *(k for k in now if k not in before)]
        return [d for k in keys for d in differences(before.get(k), now.get(k), f"{path}.{k}" if path else k)]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = zip(before, now, strict=True)
        return [d for i, (b, n) in enumerate(pairs) for d in differences(b, n, f"{path}[{i}]")]
    return [] if before == now else [Difference(path, *_cut(_text(before), _text(now)))]


def _payload(project: Project, asset: str, table: pl.DataFrame, row: str, of: str,
             planned: Mapping[str, str]) -> dict[str, Any]:
    """What decides one row. ``planned``: payloads of rows that are not stored."""
    name, key = ASSETS[asset].row, ASSETS[asset].key
    prompt, _, number = row.partition(":")
    found = table.filter(pl.col(name) == prompt)
    if number and "round" in found.columns:
        found = found.filter(pl.col("round") == int(number)) if number.isdecimal() else found.clear()
    keys = found[key].to_list()[:1]
    stored = {k: r.payload for step in call_steps(asset) for k, r in project.store.lookup(step, keys).items()}
    payload = stored.get(keys[0], planned.get(keys[0])) if keys else None
    if payload is None and keys and planned:
        raise CannotExplain(f"{row} of {of} depends on a text that does not exist yet: ask about an upstream asset")
    if payload is None:
        raise CannotExplain(f"{of} has no finished row {row!r}; rows are named by {name}"
                            + (", or PROMPT:ROUND" if "round" in found.columns else ""))
    parsed: dict[str, Any] = json.loads(payload)
    return parsed


def _record(project: Project, asset: str, version: str) -> Record:
    return project.records.latest(asset, partition_of(asset, version))


def _text(value: Any) -> str:
    return shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _cut(before: str, now: str) -> tuple[str, str]:
    """The parts of two texts from a little before their first difference on."""
    same = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    start = max(0, same - 60)
    lead = "…" if start else ""
    return lead + before[start:start + EXCERPT], lead + now[start:start + EXCERPT]
