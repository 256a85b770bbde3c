"""The report page across constitution versions."""
