"""What is not as it was written is neither used nor deleted: it is renamed into ``damaged/``, under its old path."""

from __future__ import annotations

import uuid
from pathlib import Path

from cai_assets.store.layout import Layout

DAMAGED = "damaged"


def set_aside(layout: Layout, path: Path) -> Path:
    """Rename a file or folder of the data root out of the way; return where it is now."""
    name = layout.relative(path)
    aside = f"{DAMAGED}/{name}.{uuid.uuid4().hex[:8]}"
    layout.storage.move(name, aside)
    return layout.path(aside)
