"""The method, step by step: frame in, frame out. Nothing here knows of Dagster."""
