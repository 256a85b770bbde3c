"""Keys, the row store, records and checkpoints: what was made, from what, and where it lies."""
