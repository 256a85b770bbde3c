"""Report pages, each by its own last line; and those that records name must be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cai_assets.lineage.verify.problem import Problem
from cai_assets.store.layout import Layout
from cai_assets.store.pages import intact
from cai_assets.store.records import Record

AGAIN = "make it again: 'cai report', 'cai compare' or 'cai attribute', or materialise its asset"


def pages(layout: Layout, records: Mapping[str, Record]) -> Iterator[Problem]:
    """Pages that were changed, and pages that are gone."""
    folder = layout.root / "reports"
    for path in sorted(p for p in folder.rglob("*") if p.suffix in {".html", ".md"}):
        if not intact(path):
            yield Problem("page", str(path), "is not as it was written", AGAIN)
    named = {page: name for name, r in records.items() if (page := r.details.get("page"))}
    for page, name in sorted(named.items()):
        if not (layout.root / page).is_file():
            yield Problem("page", str(layout.root / page), f"is missing, and {name} names it", AGAIN)
