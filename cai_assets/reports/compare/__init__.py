"""Two constitution versions side by side: what changed, what it did, and how sure that is."""
