"""What can be named for tracing, and the record or checkpoint folder that it means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from cai_assets.assets import CHECKPOINTS, partition_of
from cai_assets.errors import CaiError
from cai_assets.store.checkpoints import Checkpoints
from cai_assets.store.layout import Layout
from cai_assets.store.published import read_about
from cai_assets.store.records import UNPARTITIONED, Record, RecordMissing, Records, Ref
from cai_assets.store.storage import UnsafeName

KEY = re.compile(r"(k1:)?[0-9a-f]{8,32}")
RECORD_ID = re.compile(r"(?P<asset>[a-z_]+)/(?P<partition>[a-z0-9-]+)/(?P<number>\d{6})")


class UnknownTarget(CaiError, LookupError):
    """Nothing can be traced under that name. The message suggests close names, or says what is accepted."""


def find_record(layout: Layout, target: str) -> Record:
    """The record that a target names. Raise UnknownTarget with close names."""
    records = Records(layout)
    exact = RECORD_ID.fullmatch(target)
    asset, _, partition = (exact["asset"], "", exact["partition"]) if exact else target.partition("@")
    try:
        where = None if partition == UNPARTITIONED else partition_of(asset, partition)
        if not exact:
            return records.latest(asset, where)
        return records.get(Ref(asset=asset, partition=where, number=int(exact["number"]), digest=""))
    except (RecordMissing, UnsafeName, FileNotFoundError):
        raise UnknownTarget(_unknown(layout, target)) from None


def nearest(record: Record, asset: str, above: Mapping[str, Record]) -> Record | None:
    """The record of an asset that a record was made from, in the fewest steps. ``above``: what can be read, by id."""
    seen, waiting = set[str](), [ref.id for ref in record.inputs]
    while waiting:
        records = [above[name] for name in waiting if name in above]
        if match := next((r for r in records if r.asset == asset), None):
            return match
        seen.update(waiting)
        waiting = [ref.id for r in records for ref in r.inputs if ref.id not in seen]
    return None


def every_record(layout: Layout, assets: tuple[str, ...] | None = None) -> Iterator[Record]:
    """All records, of all assets or some, in a fixed order."""
    records = Records(layout)
    for asset in records.assets():
        if assets is None or asset in assets:
            yield from records.every(asset)


def checkpoint_folder(layout: Layout, target: str) -> Path | None:
    """The folder of a checkpoint named by path, key, or the start of a key."""
    if Path(target).is_dir():
        return Path(target)
    if not KEY.fullmatch(target):
        return None
    folders = Checkpoints(layout).starting_with(target)
    if len(folders) > 1:
        raise UnknownTarget(f"{target} is the start of {len(folders)} keys: " + ", ".join(p.name for p in folders))
    return folders[0] if folders else None


def maker(layout: Layout, folder: Path) -> Record:
    """The first record that names a checkpoint made before folders carried their lineage."""
    key = read_about(folder).get("key")
    makers = [r for r in every_record(layout, CHECKPOINTS) if r.digest == key]
    if not makers:
        raise UnknownTarget(f"{folder} has no lineage and no record here names its key {key}: trace it where it was "
                            "made (set CAI_DATA_ROOT)")
    return min(makers, key=lambda r: (r.details.get("reused_checkpoint", False), r.created))


def _unknown(layout: Layout, target: str) -> str:
    names = sorted({f"{r.asset}@{r.partition}" if r.partition else r.asset for r in every_record(layout)})
    near = difflib.get_close_matches(target, names, n=3, cutoff=0.5) or [k for k in names if k in CHECKPOINTS or
                                                                        k.split("@")[0] in CHECKPOINTS][-3:]
    hint = f"Did you mean {', '.join(near)}?" if near else "Nothing has been materialized yet."
    return (f"cannot trace {target!r}: give a checkpoint's folder or key, ASSET@VERSION, a record id such as "
            f"sl_policy/VERSION/000001, or a row. {hint}")
