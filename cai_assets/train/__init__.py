"""Training stages. Each runs in its own process: ``python -m cai_assets.train JOB.json``."""
