"""What the shell completes: versions, constitutions, assets. Quiet about anything that is wrong."""

from __future__ import annotations

from contextlib import suppress

from cai_assets.assets import ASSETS
from cai_assets.errors import CaiError


def versions(incomplete: str) -> list[str]:
    """Registered versions, newest first, and names of constitution files."""
    with suppress(CaiError, OSError):
        from cai_assets.constitution.files import constitution_files
        from cai_assets.settings import load_settings
        from cai_assets.store.layout import Layout
        from cai_assets.versions.snapshots import Snapshots

        settings = load_settings()
        names = [path.stem for path in constitution_files(settings.constitutions)]
        known = [*names, *reversed(Snapshots(Layout(settings.data_root)).known())]
        return [name for name in known if name.startswith(incomplete)]
    return []


def assets(incomplete: str) -> list[str]:
    """Names of assets, in the order of the graph."""
    return [name for name in ASSETS if name.startswith(incomplete)]
