"""How reports put tables and numbers: each in one place."""
