"""Report pages, each by its own last line; and those that records name must be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cai_assets.lineage.verify.problem import Problem
from cai_assets.store.layout import Layout
from cai_assets.store.pages import intact
from cai_assets.store.records import Record

AGAIN = "rebuild it with 'cai report', 'cai compare', or 'cai attribute', or materialize its asset"


def pages(layout: Layout, records: Mapping[str, Record]) -> Iterator[Problem]:
    """Pages that were changed, and pages that are gone."""
    for entry in layout.storage.list("reports"):
        if entry.name.endswith((".html", ".md")) and not intact(layout.storage.get(entry.name)):
            yield Problem("page", str(layout.path(entry.name)), "is not as it was written", AGAIN)
    named = {page: name for name, r in records.items() if (page := r.details.get("page"))}
    for page, name in sorted(named.items()):
        if not layout.has(page):
            yield Problem("page", str(layout.path(page)), f"is missing, and {name} names it", AGAIN)
