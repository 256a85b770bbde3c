"""Constitutions: model, loading, digests, principle draws, lint. Pure: no model, no Dagster."""
