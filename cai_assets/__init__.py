"""Constitutional AI as Dagster assets. See docs/architecture.md for the map.

``load(asset, version)`` gives a table as a frame, ``checkpoint(asset, version)`` the folder of a trained model, and
``build_defs()`` the assets, to merge into a Dagster project of one's own.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


# Imported when they are first asked for: every module imports this one.
_WHERE = {"load": "cai_assets.api", "checkpoint": "cai_assets.api", "build_defs": "cai_assets.definitions"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
