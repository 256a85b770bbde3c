"""The report page of one constitution version."""
