"""Exports: Hub-shaped folders, and lineage in the formats that other tools read."""
