"""The Dagster side. The only folder that imports ``dagster``."""
