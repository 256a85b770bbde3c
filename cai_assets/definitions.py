"""The Dagster code location, as workspace.yaml and dg name it."""

from cai_assets.defs.location import defs

__all__ = ["defs"]
