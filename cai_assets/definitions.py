"""The Dagster code location, as workspace.yaml and dg name it, and the same to merge into another."""

from cai_assets.defs.location import build_defs, defs

__all__ = ["build_defs", "defs"]
