"""Why a row or a checkpoint of one version is not the one of another: the fields that differ, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from cai_assets.lineage.records import WITHOUT_VERSION, Record, RecordMissing
from cai_assets.project import Project

STEPS = {"initial_responses": ("respond",), "starting_responses": ("respond",), "critiques": ("critique",),
         "revisions": ("revision",), "response_pairs": ("respond", "revision"), "preference_pairs": ("label",)}
ROW = {"response_pairs": ("pair_id", "row_key_a"), "preference_pairs": ("pair_id", "row_key_first")}
PARTS = ("base", "data", "settings", "seed", "code_version", "reward_model", "labeller", "supervised")
EXCERPT = 300


@dataclass(frozen=True)
class Difference:
    """One field of what decides an output, before and now, as text cut to what differs."""

    field: str
    before: str
    now: str


def why_row(project: Project, asset: str, version: str, row: str, *, against: str) -> list[Difference]:
    """Fields that differ between one row of two versions. ``row``: prompt id, 'PROMPT:ROUND', or pair id.

    Raise LookupError if the asset has no such row or was not materialised.
    """
    now, before = (_payload(project, asset, v, row) for v in (version, against))
    return differences(before, now)


def why_checkpoint(project: Project, asset: str, version: str, *, against: str) -> list[Difference]:
    """Parts of the key that differ between the checkpoints of two versions.

    Where the training rows differ, also the inputs whose content does: 'input sl_dataset', say, to go on with.
    """
    old, new = (_record(project, asset, v) for v in (against, version))
    before, now = (_parts(project, record) for record in (old, new))
    found = differences(before, now)
    return found if before["data"] == now["data"] else [*found, *_changed_inputs(old, new)]


def _parts(project: Project, record: Record) -> dict[str, Any]:
    checkpoint = project.checkpoints.find(record.asset, record.digest)
    if checkpoint is None:
        raise LookupError(f"the checkpoint {record.digest} of {record.asset} for {record.partition or 'all versions'} "
                          "is gone")
    return {name: checkpoint.record.get(name) for name in PARTS}


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


def _payload(project: Project, asset: str, version: str, row: str) -> dict[str, Any]:
    if asset not in STEPS:
        raise LookupError(f"{asset} has no rows made by a model; choose one of {', '.join(STEPS)}")
    name, key = ROW.get(asset, ("prompt_id", "row_key"))
    prompt, _, number = row.partition(":")
    found = project.records.table(_record(project, asset, version)).filter(pl.col(name) == prompt)
    if number and "round" in found.columns:
        found = found.filter(pl.col("round") == int(number))
    keys = found[key].to_list()
    stored = {k: r for step in STEPS[asset] for k, r in project.store.lookup(step, keys[:1]).items()}
    if not stored:
        raise LookupError(f"{asset} for {version} has no finished row {row!r}; rows are named by {name}"
                          + (", or PROMPT:ROUND" if "round" in found.columns else ""))
    payload: dict[str, Any] = json.loads(next(iter(stored.values())).payload)
    return payload


def _record(project: Project, asset: str, version: str) -> Record:
    try:
        return project.records.latest(asset, None if asset in WITHOUT_VERSION else version)
    except RecordMissing as e:
        raise LookupError(str(e)) from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(before: str, now: str) -> tuple[str, str]:
    """The parts of two texts from a little before their first difference on."""
    same = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    start = max(0, same - 60)
    lead = "…" if start else ""
    return lead + before[start:start + EXCERPT], lead + now[start:start + EXCERPT]
