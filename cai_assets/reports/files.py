"""Where a report's page is under the data root."""

from __future__ import annotations

from pathlib import Path

from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout, safe_name

LONGEST = 100  # characters of a file's name, its ending aside


def page_file(layout: Layout, folder: str, *of: str) -> Path:
    """``reports/<folder>/<of>.html``. Long names are cut, and kept unique by a hash."""
    name = "-".join(x.replace("/", "-") for x in of)
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 9]}-{tagged_hash('page', of[0] if len(of) == 1 else list(of))[-8:]}"
    return layout.file("reports", folder, safe_name(f"{name}.html"))
