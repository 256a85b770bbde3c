"""Training stages. Each runs in a process of its own: ``python -m cai_assets.train JOB.json``."""
