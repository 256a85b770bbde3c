"""Where a checkpoint comes from and where a constitution went, on their pages in Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import dagster as dg

from cai_assets.lineage.trace import LineageBroken, read_lineage
from cai_assets.reports.diff import preview_table
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.records import Record, Ref


def lineage_metadata(record: Record, checkpoint: Checkpoint) -> dict[str, Any]:
    """The principles that shaped a checkpoint, links to the partitions it was made from, the command to trace it."""
    command = f"cai trace {record.asset}" + (f"@{record.partition}" if record.partition else "")
    out: dict[str, Any] = {"trace": dg.MetadataValue.md(f"```\n{command}\n```"),
                           "made_from": dg.MetadataValue.md(links(record.inputs))}
    try:
        used = read_lineage(checkpoint.path).lineage.influence
    except LineageBroken:  # a checkpoint from before lineage files
        return out
    if used and used.principles:
        rows = [{"principle": p.id, "rows": p.rows, f"of {used.measure}": f"{p.text_share:.1%}", "labels": p.labels,
                 "of labels": f"{p.label_share:.1%}"}
                for p in sorted(used.principles, key=lambda p: (-p.text_share - p.label_share, p.id))]
        out["principle_shares"] = dg.MetadataValue.md(preview_table(rows))
    return out


def links(refs: Sequence[Ref]) -> str:
    """One link for each record: to its asset's page, at its partition."""
    lines = []
    for ref in refs:
        at = f"?view=partitions&partition={quote(ref.partition)}" if ref.partition else ""
        lines.append(f"- [{ref.asset}{f' · {ref.partition}' if ref.partition else ''}](/assets/{ref.asset}{at}) "
                     f"record {ref.number}")
    return "\n".join(lines) or "nothing of this project"


def reached(record: Record, checkpoint: Checkpoint) -> dg.AssetObservation:
    """An observation of the constitution version: a checkpoint that it reached, in one entry."""
    text = f"{links([record.ref])}\n- `{checkpoint.key}`\n- `cai trace {record.asset}@{record.partition}`"
    return dg.AssetObservation(asset_key="constitution", partition=record.partition,
                               metadata={f"reached_{record.asset}": dg.MetadataValue.md(text)})
