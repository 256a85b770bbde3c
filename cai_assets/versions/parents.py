"""The document that a constitution derives from, where it is on file."""

from __future__ import annotations

from pathlib import Path, PurePath

from cai_assets.constitution.files import constitution_file
from cai_assets.constitution.load import ConstitutionError, load_file
from cai_assets.constitution.model import Constitution
from cai_assets.versions.snapshots import Snapshots


def parent_of(own: Constitution, snapshots: Snapshots, folder: Path | None = None) -> Constitution | None:
    """The registered version that ``parent`` names, or the newest one of that name; else the file of that name among
    those of ``folder``. None if it names none, or none that is there."""
    if own.parent is None:
        return None
    registered = snapshots.newest_of(own.parent)
    if registered or folder is None:
        return registered
    try:
        return load_file(constitution_file(folder, PurePath(own.parent).stem))
    except (ConstitutionError, OSError):
        return None
