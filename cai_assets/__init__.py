"""Constitutional AI as Dagster assets. See docs/architecture.md for the map.

``load(asset, version)`` gives a table as a frame, ``checkpoint(asset, version)`` the folder of a trained model.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in {"load", "checkpoint"}:  # when they are first asked for: every module imports this one
        return getattr(import_module("cai_assets.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
