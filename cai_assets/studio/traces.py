"""From a checkpoint down to its rows and principles, exactly as they were used: what ``cai trace`` says, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.assets import ASKED, LABELS
from cai_assets.lineage.trace import Lineage, Traced, trace
from cai_assets.reports.escape import shorten
from cai_assets.studio.pages import page, project_of
from cai_assets.studio.steps import said

AT_ONCE = 40
SHORT = 160
USES = ("critique", "revision", "preference")


def traced(request: Request) -> Response:
    """One checkpoint or record. Raise UnknownTarget."""
    target, project = request.path_params["target"], project_of()
    found = trace(project.layout, target)
    lineage = found.lineage
    given = request.query_params.get("from", "")
    start = int(given) if given.isdecimal() else 0
    rows = [] if lineage.problems else list(_rows(found, start))
    return page(request, "trace.html.j2", title=f"Where {lineage.root} comes from", target=target, lineage=lineage,
                records=list(_records(lineage)), principles=list(_principles(lineage)), uses=USES, rows=rows,
                count=0 if lineage.problems else found.source.count, start=start, step=AT_ONCE)


def _records(lineage: Lineage) -> Iterator[dict[str, Any]]:
    """Each record once, what was made before what it was made from, with its depth below the checkpoint."""
    waiting, seen = [(lineage.root, 0)], set[str]()
    while waiting:
        name, depth = waiting.pop()
        if name in seen or name not in lineage.records:
            continue
        seen.add(name)
        record = lineage.records[name]
        yield {"id": name, "depth": min(depth, 9), "record": record, "models": lineage.models.get(name, {}),
               "reused": record.details.get("reused_checkpoint")}
        waiting += [(ref.id, depth + 1) for ref in reversed(record.inputs)]


def _principles(lineage: Lineage) -> Iterator[dict[str, Any]]:
    """What each principle shaped, most first; with its texts."""
    found = lineage.influence.principles if lineage.influence else ()
    for p in sorted(found, key=lambda p: (-p.rows - p.labels - p.graded, p.version, p.id)):
        yield {**p.model_dump(), "texts": [(use, text) for use in USES if (text := getattr(p, use))]}


def _rows(found: Traced, start: int) -> Iterator[dict[str, Any]]:
    """Some of the rows that it was trained on, and of those that they come from."""
    lineage = found.lineage
    here = lineage.top.partition  # where the chains of rows that no version owns are shown
    for row in found.source.read(start, start + AT_ONCE).iter_rows(named=True):
        trained, held = ([lineage.records[n].asset for n in dict.fromkeys(row[name] or []) if n in lineage.records]
                         for name in ("trained_in", "held_out_in"))
        text = said(row["messages"]) if row["text"] is None and row["messages"] else row["text"] or ""
        yield {"id": row["row_id"], "asset": row["asset"], "round": row["round"], "prompt": _prompt(row),
               "by": row["principle_ids"] or row["graded_by"] or [], "label": row["label"] if row["asset"] == LABELS
               else None, "trained": trained, "held": held, "version": row["version"] or here,
               "text": shorten(" ".join(text.split()), SHORT)}


def _prompt(row: dict[str, Any]) -> str:
    return str(row["row_id"]) if row["asset"] in ASKED else str(row.get("prompt_id") or "")
