"""Constitutions in time: registered snapshots, versions derived from others, rounds, and what is archived."""
